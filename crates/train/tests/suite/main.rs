//! Training as a whole, through the library's own door and through the command.

mod command;
mod resume;
mod support;
mod tasks;
