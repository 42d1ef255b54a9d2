//! The routes, by resource. Each takes from HTTP what the modules without HTTP need, and no more.

pub mod models;
pub mod oip;
pub mod operations;
pub mod playground;
pub mod predict;
pub mod reply;
pub mod repository;
pub mod table;
pub mod traffic;
