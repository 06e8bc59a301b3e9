//! Placeholder for flowyard-sdk.
