//! The agent's loop, whole: a scripted model and toy tools on one side, a plan, advice or an explanation on the other.
//! Every row of the table of failures, every limit at its edge, and models that do whatever they like.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod hostile;
mod house;
mod limits;
mod prompts;
mod replay;
mod reuse;
mod table;
