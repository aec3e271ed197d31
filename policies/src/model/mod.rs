//! The passes of a decoder, once for all devices: [`ops`] says what a device computes, [`block`] what a block is, [`pass`]
//! what is done with blocks.
pub mod block;
pub mod draw;
pub mod ops;
pub mod pass;
pub mod tower;
pub mod update;
