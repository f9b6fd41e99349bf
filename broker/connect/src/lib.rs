//! The pure core of Ottla's connect runtime.
pub mod audit;
pub mod config;
pub mod converter;
pub mod data;
pub mod error;
pub mod errors;
pub mod partition;
pub mod rotate;
pub mod time;
pub mod transform;
