//! What the user has chosen to see: screens, selections, filters.

use std::{cell::Cell, collections::BTreeMap};

use distfun_core::view::{Place, Time};

/// A page of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Screen {
    /// Everything at a glance.
    #[default]
    Overview,
    /// Who supervises whom.
    Tree,
    /// Slots of the machines whose logs these are.
    Workers,
    /// Other machines.
    Nodes,
    /// Calls.
    Calls,
    /// What ran where and when.
    Chunks,
    /// What went wrong, by kind.
    Failures,
    /// Shared data.
    #[value(alias = "shared")]
    Data,
}

impl Screen {
    pub(crate) const ALL: [Self; 8] =
        [Self::Overview, Self::Tree, Self::Workers, Self::Nodes, Self::Calls, Self::Chunks, Self::Failures, Self::Data];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Tree => "tree",
            Self::Workers => "workers",
            Self::Nodes => "nodes",
            Self::Calls => "calls",
            Self::Chunks => "chunks",
            Self::Failures => "failures",
            Self::Data => "data",
        }
    }

    fn number(self) -> usize {
        self as usize
    }
}

/// Names whatever can be selected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Process(u32),
    Manager(u32, u64),
    /// A worker or a node of a Manager.
    Place(u32, u64, Place),
    Job(u32, u64),
    /// By kind and whose.
    Failure(String, String),
    Shared(u32, String),
}

/// What is chosen on one screen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pane {
    pub(crate) selected: Option<Key>,
    /// Where it was last: what is there now is selected when it is gone.
    pub(crate) index: usize,
    pub(crate) filter: String,
    pub(crate) sort: Option<usize>,
    pub(crate) is_reversed: bool,
    pub(crate) failed_only: bool,
    pub(crate) has_detail: bool,
    /// Lines of the details above those that are shown; drawing holds it to what there is.
    pub(crate) scrolled: Cell<usize>,
}

impl Pane {
    /// The row that is selected, among rows with these keys.
    pub(crate) fn position<'a>(&self, mut keys: impl ExactSizeIterator<Item = &'a Key>) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        let last = keys.len().checked_sub(1)?;
        Some(keys.position(|key| key == selected).unwrap_or(self.index.min(last)))
    }
}

/// Seconds that a column of the chunk stream stands for.
const ZOOMS: [f64; 17] =
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 28_800.0, 86_400.0];

/// All of it.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    pub(crate) screen: Screen,
    panes: [Pane; 8],
    pub(crate) has_help: bool,
    /// What is typed goes into the filter.
    pub(crate) is_typing: bool,
    zoom: Cell<usize>,
    /// The zoom is the user's, and not what drawing takes to be fitting.
    is_zoomed: bool,
    /// The right edge of the chunk stream, if it does not go with the time.
    pub(crate) edge: Option<Time>,
    /// Whose parts the tree shows, or not, as the user has said.
    pub(crate) folds: BTreeMap<Key, bool>,
}

impl Ui {
    pub(crate) fn new(screen: Screen) -> Self {
        Self {
            screen,
            panes: Default::default(),
            has_help: false,
            is_typing: false,
            zoom: Cell::new(5),
            is_zoomed: false,
            edge: None,
            folds: BTreeMap::new(),
        }
    }

    pub(crate) fn pane(&self) -> &Pane {
        &self.panes[self.screen.number()]
    }

    pub(crate) fn pane_mut(&mut self) -> &mut Pane {
        &mut self.panes[self.screen.number()]
    }

    pub(crate) fn turn(&mut self, forward: bool) {
        let step = if forward { 1 } else { Screen::ALL.len() - 1 };
        self.screen = Screen::ALL[(self.screen.number() + step) % Screen::ALL.len()];
    }

    /// Seconds for each column of the chunk stream.
    pub(crate) fn column_s(&self) -> f64 {
        ZOOMS[self.zoom.get()]
    }

    pub(crate) fn zoom(&mut self, closer: bool) {
        let zoom = self.zoom.get();
        self.zoom.set(if closer { zoom.saturating_sub(1) } else { (zoom + 1).min(ZOOMS.len() - 1) });
        self.is_zoomed = true;
    }

    /// Unless the user has chosen, so close that so many columns hold these seconds.
    pub(crate) fn fit(&self, seconds: f64, columns: usize) {
        if !self.is_zoomed {
            let holds = |column_s: &f64| column_s * columns.saturating_sub(1) as f64 >= seconds;
            self.zoom.set(ZOOMS.iter().position(holds).unwrap_or(ZOOMS.len() - 1));
        }
    }
}
