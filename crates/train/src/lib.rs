//! train
pub mod data;
