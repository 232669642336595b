//! A distributed function against a model of it, whatever is done with it.

use distfun::{Context, Ending, FailureCause, distribute_local};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::{Function, ending};
use crate::support::{LIMIT, eventually};

const FAILS: usize = usize::MAX;
const HELD: usize = usize::MAX - 1;

#[derive(Debug, Clone)]
enum Step {
    Build { endaftercall: bool },
    Call { items: usize },
    CallWithFailure { items: usize, at: usize },
    Cancel { items: usize },
    DropCall { items: usize },
    Finished,
    Shutdown,
    Clone,
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Fresh,
    Running,
    Ended(Ending),
}

/// What a distributed function should be like, in a few words.
#[derive(Debug, Clone)]
struct Model {
    handles: usize,
    endaftercall: bool,
    stage: Stage,
    /// How the last call was refused, if it was.
    refused: Option<Ending>,
}

impl Model {
    fn call(&mut self, items: usize) {
        self.refused = match self.stage {
            Stage::Ended(ending) => Some(ending),
            _ => None,
        };
        if self.refused.is_none() {
            self.stage = match (self.endaftercall, items) {
                (true, _) => Stage::Ended(Ending::EndedAfterCall),
                (false, 0) => self.stage,
                (false, _) => Stage::Running,
            };
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { handles: 0, endaftercall: false, stage: Stage::Fresh, refused: None }).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Step> {
        if state.handles == 0 {
            return any::<bool>().prop_map(|endaftercall| Step::Build { endaftercall }).boxed();
        }
        prop_oneof![
            4 => (0..50usize).prop_map(|items| Step::Call { items }),
            2 => Just(Step::Call { items: 0 }),
            3 => (1..30usize, 0..30usize).prop_map(|(items, at)| Step::CallWithFailure { items, at: at % items }),
            3 => (1..6usize).prop_map(|items| Step::Cancel { items }),
            2 => (1..6usize).prop_map(|items| Step::DropCall { items }),
            1 => Just(Step::Finished),
            1 => Just(Step::Shutdown),
            2 => Just(Step::Clone),
            3 => Just(Step::Drop),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        matches!(step, Step::Build { .. }) == (state.handles == 0)
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        match *step {
            Step::Build { endaftercall } => {
                state = Self { handles: 1, endaftercall, stage: Stage::Fresh, refused: None };
            }
            Step::Call { items } => state.call(items),
            Step::CallWithFailure { items, .. } | Step::Cancel { items } | Step::DropCall { items } => {
                state.call(items);
            }
            Step::Finished if state.stage == Stage::Ended(Ending::ShutDown) => {}
            Step::Finished => state.stage = Stage::Ended(Ending::Finished),
            Step::Shutdown => state.stage = Stage::Ended(Ending::ShutDown),
            Step::Clone => state.handles += 1,
            Step::Drop => state.handles -= 1,
        }
        state
    }
}

struct Real;

impl StateMachineTest for Real {
    type SystemUnderTest = Vec<Function>;
    type Reference = Model;

    fn init_test(_: &Model) -> Vec<Function> {
        Vec::new()
    }

    fn apply(mut handles: Vec<Function>, model: &Model, step: Step) -> Vec<Function> {
        let dfun = handles.last();
        match step {
            Step::Build { endaftercall } => {
                let function = |x: usize, context: &Context<'_>| match x {
                    FAILS => panic!("as asked"),
                    HELD => {
                        eventually(LIMIT, "the call is cancelled", || context.is_cancelled());
                        0
                    }
                    x => x + 1,
                };
                handles.push(distribute_local(function).slots(2).endaftercall(endaftercall).build().unwrap());
            }
            Step::Call { items } => match (dfun.unwrap().map(0..items).wait(), model.refused) {
                (Ok(results), None) => assert_eq!(results, (1..=items).collect::<Vec<_>>()),
                (result, refused) => assert_eq!(Some(ending(result)), refused),
            },
            Step::CallWithFailure { items, at } => {
                let input = (0..items).map(|x| if x == at { FAILS } else { x });
                let error = dfun.unwrap().map(input.collect::<Vec<_>>()).wait().unwrap_err();
                assert_eq!(error.ending(), model.refused.unwrap_or(Ending::ItemsFailed));
                if model.refused.is_none() {
                    let failed: Vec<_> = error.failed().iter().map(|failure| failure.index).collect();
                    assert_eq!((failed, error.finished().len()), (vec![at], items - 1));
                    assert!(matches!(error.failed()[0].cause, FailureCause::Panicked { .. }));
                }
            }
            Step::Cancel { items } => {
                let call = dfun.unwrap().map(vec![HELD; items]);
                call.canceller().cancel();
                let error = call.wait().unwrap_err();
                assert_eq!(error.ending(), model.refused.unwrap_or(Ending::Cancelled));
                assert_eq!(error.finished().len(), 0);
            }
            Step::DropCall { items } => drop(dfun.unwrap().map(vec![HELD; items])),
            Step::Finished => assert_eq!(dfun.unwrap().finished(), Ok(())),
            Step::Shutdown => assert!(dfun.unwrap().shutdown().is_ok()),
            Step::Clone => handles.push(handles[0].clone()),
            Step::Drop => drop(handles.remove(0)),
        }
        handles
    }

    fn check_invariants(handles: &Vec<Function>, model: &Model) {
        assert_eq!(handles.len(), model.handles);
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_function_behaves_as_its_model_whatever_is_done_with_it(sequential 1..40 => Real);
}
