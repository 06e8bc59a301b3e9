//! Placeholder for flowyard-agent.
