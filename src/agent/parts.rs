//! What each role brings to its conversation: its first messages and its tools.

use std::sync::Arc;

use super::{config::Limits, prompts::Prompts, talk::Failed};
use crate::{
    domain::{Brief, Message, Story, Text},
    plan::{Draft, Fallback},
    tools::{Advising, Context, Planning, Review, Toolbox},
};

/// How much of the change the first message shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Whether lines are shown, or paths and the names of symbols only.
    pub(super) lines: bool,
    /// Most bytes of it.
    pub(super) bytes_max: usize,
}

/// What a role brings to its conversation.
pub(super) trait Part: Send {
    /// Puts everything at hand back to where it was, and gives the first messages.
    ///
    /// # Errors
    /// Why they cannot be written.
    fn open(&mut self, shown: Shown) -> Result<Vec<Message>, Failed>;

    /// Whether the first messages show a change, so that there is something to show less of.
    fn shows_change(&self) -> bool;

    /// The tools; none for a narrator.
    fn toolbox(&mut self) -> Option<&mut dyn Toolbox>;
}

/// A planner's tools: readers, and a draft that grows.
pub trait Drafting: Toolbox {
    /// The draft as it was submitted.
    fn finish(self: Box<Self>) -> Draft;
}

/// Makes the tools of each conversation, with everything put back to where it was.
pub trait Toolboxes: Send + Sync {
    /// A planner's.
    fn planning(&self, context: &Context, review: &Arc<Review>) -> Box<dyn Drafting>;

    /// An adviser's.
    fn advising(&self, brief: &Arc<Brief>) -> Box<dyn Toolbox>;
}

impl Drafting for Planning {
    fn finish(self: Box<Self>) -> Draft {
        Planning::finish(*self)
    }
}

/// The tools that there are.
pub(super) struct Real;

impl Toolboxes for Real {
    fn planning(&self, context: &Context, review: &Arc<Review>) -> Box<dyn Drafting> {
        Box::new(Planning::new(context.clone(), Arc::clone(review)))
    }

    fn advising(&self, brief: &Arc<Brief>) -> Box<dyn Toolbox> {
        Box::new(Advising::new(Arc::clone(brief)))
    }
}

fn unwritten(why: String) -> Failed {
    (Fallback::Unavailable, why)
}

/// The planner: sees the change, less of it where a model refuses or has no room.
pub(super) struct PlannerPart<'a> {
    pub(super) context: &'a Context,
    pub(super) review: Arc<Review>,
    pub(super) limits: &'a Limits,
    pub(super) prompts: &'a Prompts,
    pub(super) toolboxes: &'a dyn Toolboxes,
    pub(super) toolbox: Option<Box<dyn Drafting>>,
    pub(super) uncovered: Vec<Text>,
}

impl Part for PlannerPart<'_> {
    fn open(&mut self, shown: Shown) -> Result<Vec<Message>, Failed> {
        self.toolbox = Some(self.toolboxes.planning(self.context, &self.review));
        let planner = self.prompts.planner(self.context, &self.review, self.limits, shown);
        let (messages, opening) = planner.map_err(unwritten)?;
        self.uncovered = opening.uncovered;
        Ok(messages)
    }

    fn shows_change(&self) -> bool {
        true
    }

    fn toolbox(&mut self) -> Option<&mut dyn Toolbox> {
        self.toolbox.as_mut().map(|toolbox| &mut **toolbox as &mut dyn Toolbox)
    }
}

/// The adviser: sees a brief, which holds no stranger's word.
pub(super) struct AdvisorPart<'a> {
    pub(super) brief: Arc<Brief>,
    pub(super) prompts: &'a Prompts,
    pub(super) toolboxes: &'a dyn Toolboxes,
    pub(super) toolbox: Option<Box<dyn Toolbox>>,
}

impl Part for AdvisorPart<'_> {
    fn open(&mut self, _shown: Shown) -> Result<Vec<Message>, Failed> {
        self.toolbox = Some(self.toolboxes.advising(&self.brief));
        self.prompts.advisor(&self.brief).map_err(unwritten)
    }

    fn shows_change(&self) -> bool {
        false
    }

    fn toolbox(&mut self) -> Option<&mut dyn Toolbox> {
        self.toolbox.as_mut().map(|toolbox| &mut **toolbox as &mut dyn Toolbox)
    }
}

/// The narrator: sees how a rollout ended, and has no tools.
pub(super) struct NarratorPart<'a> {
    pub(super) story: Arc<Story>,
    pub(super) prompts: &'a Prompts,
}

impl Part for NarratorPart<'_> {
    fn open(&mut self, _shown: Shown) -> Result<Vec<Message>, Failed> {
        self.prompts.narrator(&self.story).map_err(unwritten)
    }

    fn shows_change(&self) -> bool {
        false
    }

    fn toolbox(&mut self) -> Option<&mut dyn Toolbox> {
        None
    }
}
