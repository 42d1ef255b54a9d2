//! Black-box tests: the binaries as their users run them.

mod browser;
mod commands;
mod devices;
mod http;
mod image;
mod lifecycle;
mod operator;
mod own_data;
mod support;
