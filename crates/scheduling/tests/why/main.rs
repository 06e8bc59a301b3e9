//! Explanations: every number is counted again from the records, and every fix is carried out. And plans: that they come out as ever.

mod alternatives;
mod changes;
mod lacks;
mod laws;
mod leaving;
mod lent;
mod line;
mod near;
mod plans;
mod random;
mod scenes;
mod slow;
mod there;
mod throttled;
mod told;
mod world;
