//! The moves of a batch, done: several engines together, and on several threads where there are. It decides nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::{
    ThreadPool, ThreadPoolBuilder,
    iter::{IntoParallelIterator, ParallelIterator},
};

use crate::{
    candle::Candle,
    catalog::State,
    engine::{Engine, Move, Room, TOGETHER_MAX, Way, hash_row},
    extras::Extras,
};

/// Jobs below which one thread does all of them: waking another costs more.
const JOBS_PER_THREAD_MIN: usize = 64;

/// Locked by the thread that moves them; nobody ever waits.
pub type Engines = Vec<Mutex<Box<Engine>>>;

/// What an engine has to do for one candle.
#[derive(Debug)]
pub struct Job<'a> {
    /// The place of the candle in its batch.
    pub candle: usize,
    /// The place of the engine.
    pub slot: usize,
    /// What it does.
    pub work: Work,
    /// Where the window goes.
    pub room: Option<Room<'a>>,
    /// Whether it is one of so many that the caches cannot hold them.
    pub is_far: bool,
    /// Where the newest row goes.
    pub row: Option<&'a mut [f32]>,
}

/// A window that was written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The place of its candle in the batch.
    pub candle: usize,
    /// Of its newest row.
    pub features_hash: u64,
    /// Columns that have one value all through it.
    pub still: u32,
}

/// What an engine does.
#[derive(Debug)]
pub enum Work {
    /// Take the bars.
    Take(Move),
    /// Show the window they would give.
    Peek(Move),
    /// Show the window as it is.
    Show,
}

/// Where peeks are computed, once there is one.
type Scratch = Option<Box<State>>;

/// Those who do the jobs.
#[derive(Debug)]
pub struct Staff {
    scratch: Mutex<Scratch>,
    pool: Option<ThreadPool>,
}

impl Staff {
    /// As many threads; one of them needs no pool.
    pub fn new(threads: usize) -> Self {
        let pool = || ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
        Self { scratch: Mutex::default(), pool: (threads > 1).then(pool) }
    }

    /// Does the jobs, each engine's in their order. Returns what there is to say of the windows that were written.
    pub fn run(&self, engines: &Engines, mut jobs: Vec<Job>) -> Vec<Written> {
        jobs.sort_by_key(|job| job.slot);
        let Some(pool) = self.pool.as_ref().filter(|_| jobs.len() >= 2 * JOBS_PER_THREAD_MIN) else {
            return run(engines, &mut jobs, &mut locked(&self.scratch));
        };
        let mut shares = Vec::new();
        let mut rest = jobs.as_mut_slice();
        while !rest.is_empty() {
            // One engine's jobs stay together.
            let newest = rest[rest.len().min(JOBS_PER_THREAD_MIN) - 1].slot;
            let (share, after) = rest.split_at_mut(rest.partition_point(|job| job.slot <= newest));
            shares.push(share);
            rest = after;
        }
        pool.install(|| shares.into_par_iter().flat_map_iter(|share| run(engines, share, &mut None)).collect())
    }
}

/// Does jobs in the order of their engines.
fn run(engines: &Engines, jobs: &mut [Job], scratch: &mut Scratch) -> Vec<Written> {
    let mut written = Vec::with_capacity(jobs.len());
    let mut together = jobs
        .chunk_by_mut(|a, b| a.bar().is_some() && b.bar().is_some() && a.slot != b.slot)
        .flat_map(|run| run.chunks_mut(TOGETHER_MAX))
        .peekable();
    while let Some(jobs) = together.next() {
        if let [job] = jobs {
            written.extend(job.run(&mut locked(&engines[job.slot]), scratch));
            continue;
        }
        let bars: Vec<_> = jobs.iter().filter_map(Job::bar).collect();
        let mut moving: Vec<_> = jobs.iter().map(|job| locked(&engines[job.slot])).collect();
        // What moves now and again next is locked, and at hand already.
        let next = together.peek().map_or(&[][..], |jobs| jobs).iter();
        let next: Vec<_> = next.filter_map(|job| engines[job.slot].try_lock().ok()).collect();
        Engine::update_each(
            &mut moving.iter_mut().map(|engine| &mut ***engine).collect::<Vec<_>>(),
            &bars,
            &next.iter().map(|engine| &***engine).collect::<Vec<_>>(),
        );
        written.extend(jobs.iter_mut().zip(&moving).filter_map(|(job, engine)| job.show(engine)));
    }
    written
}

impl Job<'_> {
    /// The bar, for an engine that takes one and does nothing else.
    fn bar(&self) -> Option<(Candle, Extras)> {
        match &self.work {
            Work::Take(Move { candle, extras, way: Way::Next }) => Some((*candle, *extras)),
            _ => None,
        }
    }

    /// Does the work.
    fn run(&mut self, engine: &mut Engine, scratch: &mut Scratch) -> Option<Written> {
        match &self.work {
            Work::Peek(bars) => {
                let has_room = self.room.is_some();
                let (row, still) = engine.peek(bars, scratch.get_or_insert_default(), self.room.take());
                if let Some(to) = &mut self.row {
                    to.copy_from_slice(&row);
                }
                return has_room.then(|| Written { candle: self.candle, features_hash: hash_row(&row), still });
            }
            Work::Take(bars) => engine.take(bars),
            Work::Show => (),
        }
        self.show(engine)
    }

    /// Writes what is asked for of an engine that stands where it shall.
    fn show(&mut self, engine: &Engine) -> Option<Written> {
        if let Some(to) = &mut self.row {
            to.copy_from_slice(engine.newest());
        }
        let room = self.room.take()?;
        if self.is_far {
            engine.write_window_far(room)
        } else {
            engine.write_window(room)
        }
        Some(Written { candle: self.candle, features_hash: hash_row(engine.newest()), still: engine.still() })
    }
}

/// The lock of a mutex nobody waits for.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked within took the whole market down with it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
