//! The simulator finds nothing in the production code, and everything that is planted around it.

use farthing_sim::{Failure, OwnerPlan, OwnerPlanted, Plan, Planted, run, run_owner};

const STEPS: u64 = 1_200;

fn plan(seed: u64) -> Plan {
    Plan { seed, steps: STEPS, planted: None }
}

#[track_caller]
fn holds(seed: u64) -> farthing_sim::Run {
    run(plan(seed)).unwrap_or_else(|failure| panic!("{failure}"))
}

/// C-01, C-02, C-03, C-04, C-05, C-06, F-04, F-05, F-06, F-07, F-08, R-01, R-06, U-04: whatever goes
/// wrong, in whatever order, nobody pays twice, nothing is answered that is not paid for, what was
/// acknowledged is there after every crash, and nothing hangs without a reason.
#[test]
fn every_invariant_holds_whatever_goes_wrong() {
    let (mut payments, mut faults) = (0, std::collections::BTreeMap::new());
    for seed in 1..=300 {
        let run = holds(seed);
        payments += run.payments;
        for (fault, count) in run.faults {
            *faults.entry(fault).or_insert(0) += count;
        }
    }
    assert!(payments > 1_000, "something was bought: {payments}");
    assert_eq!(faults.len(), 30, "everything went wrong at some time: {faults:?}");
}

/// A seed decides everything, to the last byte on the disk.
#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in 1..=10 {
        assert_eq!(holds(seed), holds(seed), "{seed}");
    }
    assert_ne!(holds(1).digest, holds(2).digest);
}

/// How many seeds a planted bug may hide in.
const SEEDS_MAX: u64 = 400;

/// Finds what is planted, and shows that it is what was found: on the same seed, nothing fails without.
#[track_caller]
fn finds(planted: Planted) {
    let found = |seed| -> Option<Failure> {
        let failure = run(Plan { planted: Some(planted), ..plan(seed) }).err()?;
        (failure.invariant == planted.breaks()).then_some(*failure)
    };
    let failure = (1..=SEEDS_MAX).find_map(found);
    let failure = failure.unwrap_or_else(|| panic!("{planted:?} is not found"));
    holds(failure.plan.seed);
    let text = failure.to_string();
    let again = format!("--seed {} --runs 1 --steps {STEPS}", failure.plan.seed);
    assert!(text.contains(&again) && text.contains(planted.name()), "{text}");
    assert!(!failure.trace.is_empty() && failure.step > 0, "{text}");
    let second = found(failure.plan.seed).expect("the same seed fails again");
    assert_eq!((second.step, second.what), (failure.step, failure.what), "in the same way");
}

macro_rules! planted {
    ($($story:ident: $planted:ident;)*) => {
        $(
            #[test]
            fn $story() {
                finds(Planted::$planted);
            }
        )*

        #[test]
        fn every_planted_bug_has_its_story() {
            let told = [$(Planted::$planted),*];
            assert_eq!(told.map(Planted::name), Planted::ALL.map(Planted::name));
        }
    };
}

planted! {
    a_store_that_answers_before_it_has_synced_is_found: AnswersBeforeSync;
    a_store_that_forgets_proofs_is_found: ForgetsProofs;
    a_journal_that_skips_a_record_is_found: SkipsARecord;
    a_record_that_cannot_be_made_again_is_found: WritesAnotherTime;
    an_answer_before_its_money_is_found: AnswersBeforeSettling;
    an_answer_before_its_record_is_found: AnswersBeforeRecording;
    a_handler_that_begins_in_silence_is_found: ForgetsToBegin;
    an_unknown_outcome_sent_again_is_found: SendsUnknownAgain;
    an_unknown_outcome_given_up_is_found: GivesUpUnknown;
    a_rail_that_moves_money_twice_is_found: MovesTwice;
    a_refund_sent_before_it_is_ordered_is_found: RefundsUnordered;
    a_refund_beyond_the_limits_is_found: IgnoresLimits;
    a_recovery_that_never_comes_is_found: NeverRecovers;
    a_deposit_that_never_moved_is_found: ConfirmsUnmoved;
    a_session_settled_beyond_what_was_spent_is_found: TakesTheVoucher;
    a_voucher_that_goes_back_is_found: VoucherGoesBack;
    a_rest_that_is_kept_is_found: KeepsTheRest;
    a_charge_before_it_is_written_down_is_found: ChargesUnordered;
    a_period_charged_in_another_ones_name_is_found: ChargesTheLastPeriod;
    a_cancellation_in_words_alone_is_found: CancelsInWords;
}

const DECISIONS: u64 = 500;

fn owner(seed: u64) -> OwnerPlan {
    OwnerPlan { seed, decisions: DECISIONS, planted: None }
}

#[track_caller]
fn owner_holds(seed: u64) -> farthing_sim::OwnerRun {
    run_owner(owner(seed)).unwrap_or_else(|failure| panic!("{failure}"))
}

/// P-02, P-10, P-11, P-12, P-17: whatever agents ask at once, and whatever dies in between, no limit
/// of an owner is passed at any moment, nothing else is refused, and every decision is on record.
#[test]
fn no_limit_of_an_owner_is_ever_passed() {
    let mut counts = std::collections::BTreeMap::new();
    for seed in 1..=20 {
        for (what, count) in owner_holds(seed).counts {
            *counts.entry(what).or_insert(0) += count;
        }
    }
    for (what, least) in [
        ("allowed", 2_000),
        ("over budget", 500),
        ("asked", 300),
        ("crashes", 50),
        ("freezes", 30),
        ("frozen", 5),
        ("let go", 100),
        ("midnights", 10),
        ("outcome learnt late", 50),
        ("deposit closed", 5),
        ("approval used before", 1),
    ] {
        assert!(counts.get(what).is_some_and(|it| *it >= least), "{what}: {counts:?}");
    }
}

#[test]
fn an_owner_s_run_is_a_function_of_its_seed() {
    assert_eq!(owner_holds(1), owner_holds(1));
    assert_ne!(owner_holds(1).digest, owner_holds(2).digest);
}

/// How many seeds a bug that is planted around an owner's wallet may hide in.
const OWNER_SEEDS_MAX: u64 = 60;

/// Finds what is planted, and shows that it is what was found: on the same seed, nothing fails without.
#[test]
fn every_bug_that_is_planted_around_an_owner_is_found() {
    for planted in OwnerPlanted::ALL {
        let found = |seed| {
            let plan = OwnerPlan { planted: Some(planted), ..owner(seed) };
            let failure = run_owner(plan).err()?;
            (failure.invariant == planted.breaks()).then_some(failure)
        };
        let failure = (1..=OWNER_SEEDS_MAX).find_map(found);
        let failure = failure.unwrap_or_else(|| panic!("{planted:?} is not found"));
        owner_holds(failure.plan.seed);
        assert!(failure.to_string().contains(planted.name()), "{failure}");
    }
}
