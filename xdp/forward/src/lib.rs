#![no_std]

pub mod frame;
pub mod tables;
