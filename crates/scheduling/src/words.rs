//! Names become numbers, each once, for as long as a scheduler lives. No order is read from a number.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    Account, Column, GpuClass, GpuRequest, Held, Inventory, Name, Policy, Queue, QueueAmounts, Resources, StepSpec,
    Usage, limits,
};
use flowyard_placement::{self as placement, Amounts, Named, Need, UserIndex, Wish};

/// What the decayed use of one unit comes to that is held for ever: the half-life by the natural logarithm of 2.
const HELD_FOR_EVER_MS: u128 = limits::HALF_LIFE_MS as u128 * 1_442_695 / 1_000_000;

/// Values with a number each, counted up.
#[derive(Debug)]
pub(crate) struct Numbers<T> {
    known: BTreeMap<T, u32>,
}

impl<T: Ord> Numbers<T> {
    pub(crate) fn none() -> Self {
        Self { known: BTreeMap::new() }
    }

    /// The number of a value, a new one if it has none yet.
    pub(crate) fn of(&mut self, value: T) -> u32 {
        let next = self.known.len() as u32;
        *self.known.entry(value).or_insert(next)
    }

    /// The number of a value, if it has one.
    pub(crate) fn get(&self, value: &T) -> Option<u32> {
        self.known.get(value).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

/// What is only bounded, and no part of anybody's share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Named(Name),
    /// What is held of a resource, as a queue file spells it, by what must not be evicted.
    ForGood(String),
}

/// What a member leaves on its node for others to avoid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// Its job, of this tenant, has this tag.
    Tag(String, String),
    /// It keeps apart from this tag of its tenant.
    Shuns(String, String),
}

/// Models and tokens.
#[derive(Debug)]
pub(crate) struct Words {
    /// In lower case: models are compared without case.
    models: Numbers<String>,
    tokens: Numbers<Token>,
    /// Values of the labels that are levels of the topology.
    labels: Numbers<String>,
    marks: Numbers<Mark>,
    /// Labels that are shared by all nodes of a domain over which something is spread.
    domains: Numbers<Vec<String>>,
    users: BTreeMap<u64, String>,
    /// Tokens that all nodes share, and no node is asked for.
    shared: BTreeSet<Name>,
}

impl Words {
    pub(crate) fn of(policy: &Policy) -> Self {
        Self {
            shared: policy.tokens.keys().cloned().collect(),
            models: Numbers::none(),
            tokens: Numbers::none(),
            labels: Numbers::none(),
            marks: Numbers::none(),
            domains: Numbers::none(),
            users: BTreeMap::new(),
        }
    }

    pub(crate) fn model(&mut self, name: &str) -> u32 {
        self.models.of(name.to_ascii_lowercase())
    }

    /// Where a node is in the topology, from the top.
    pub(crate) fn domain(&mut self, policy: &Policy, inventory: &Inventory) -> Vec<u32> {
        policy.domain(inventory).into_iter().map(|label| self.labels.of(label.to_owned())).collect()
    }

    /// The number of a mark.
    pub(crate) fn mark(&mut self, mark: Mark) -> u32 {
        self.marks.of(mark)
    }

    /// The number of a domain over which something is spread.
    pub(crate) fn spread_over(&mut self, labels: &[&str]) -> u32 {
        self.domains.of(labels.iter().map(|label| (*label).to_owned()).collect())
    }

    fn token(&mut self, name: &Name) -> u32 {
        self.tokens.of(Token::Named(name.clone()))
    }

    /// What some queue bounds of a resource that is held by what must not be evicted, and how much of that a task of
    /// such a step, or what such tasks hold, comes to.
    pub(crate) fn for_good(&self, held: &Held) -> placement::Held {
        let all = std::iter::once((Column::GPUS, held.get(Column::GPUS)));
        let bounded = held.columns().chain(all).filter_map(|(column, amount)| Some((self.kept(column)?, amount)));
        bounded.collect()
    }

    /// The column of what is held of a resource for good, if some queue bounds it.
    fn kept(&self, column: Column<'_>) -> Option<placement::Column> {
        Some(placement::Column::Token(self.tokens.get(&Token::ForGood(column.field()))?))
    }

    /// What a queue says of each resource that is held for good.
    pub(crate) fn named_for_good(&mut self, amounts: &QueueAmounts) -> Vec<(placement::Column, u64)> {
        let mut number = |column: Column<'_>| self.tokens.of(Token::ForGood(column.field()));
        amounts.named().map(|(column, amount)| (placement::Column::Token(number(column)), amount)).collect()
    }

    /// How many tokens, models, marks and domains there are numbers for; they only become more.
    pub(crate) fn count(&self) -> usize {
        self.models.len() + self.tokens.len() + self.marks.len() + self.domains.len()
    }

    /// The number of a person. It decides between people who hold alike, so it is the same in every scheduler: a hash
    /// of the name (of Fowler, Noll and Vo), or the next number that is free should two names ever have the same.
    pub(crate) fn user(&mut self, name: &str) -> UserIndex {
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        let mut number = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, hash);
        while self.users.entry(number).or_insert_with(|| name.to_owned()) != name {
            number = number.wrapping_add(1);
        }
        UserIndex(number)
    }

    /// Divisible amounts with their tokens, but for those that all nodes share.
    pub(crate) fn amounts(
        &mut self,
        [cpu_milli, memory_bytes, disk_bytes]: [u64; 3],
        tokens: &BTreeMap<Name, u32>,
    ) -> Amounts {
        let mut counts = Vec::new();
        for (name, count) in tokens.iter().filter(|(name, _)| !self.shared.contains(*name)).collect::<Vec<_>>() {
            let at = self.token(name) as usize;
            counts.resize(counts.len().max(at + 1), 0);
            counts[at] = *count;
        }
        Amounts { cpu_milli, memory_bytes, disk_bytes, tokens: counts }
    }

    /// What one member needs.
    pub(crate) fn needs(&mut self, wanted: &Resources) -> Amounts {
        self.amounts([wanted.cpu_milli, wanted.memory_bytes, wanted.disk_bytes], &wanted.tokens)
    }

    /// The alternatives of devices.
    pub(crate) fn wishes(&mut self, wanted: &Resources) -> Vec<Wish> {
        let wish = |request: &flowyard_model::GpuRequest| Wish {
            count: request.count,
            model: request.model.as_ref().map(|model| self.model(model)),
            min_memory_bytes: request.min_memory_bytes,
            link: request.near().map(link),
            share_milli: request.share_milli,
            memory_bytes: request.memory_bytes,
        };
        wanted.gpus.iter().map(wish).collect()
    }

    /// The kinds of work with devices, as placement is told how common each is.
    pub(crate) fn mix<'a>(&mut self, kinds: impl Iterator<Item = (&'a GpuRequest, u64)>) -> Vec<(Wish, u64)> {
        let (gpus, weights): (Vec<_>, Vec<_>) = kinds.map(|(request, weight)| (request.clone(), weight)).unzip();
        let asked =
            Resources { cpu_milli: 0, memory_bytes: 0, disk_bytes: 0, shm_bytes: 0, tokens: BTreeMap::new(), gpus };
        self.wishes(&asked).into_iter().zip(weights).collect()
    }

    /// What a task with all its members holds, by each alternative.
    pub(crate) fn task_needs(&mut self, spec: &StepSpec) -> Vec<Need> {
        let wanted = &spec.resources;
        let size = u64::from(spec.size);
        let fixed = [
            (placement::Column::Cpu, wanted.cpu_milli),
            (placement::Column::Memory, wanted.memory_bytes),
            (placement::Column::Disk, wanted.disk_bytes),
        ];
        let tokens: Vec<_> = wanted
            .tokens
            .iter()
            .map(|(name, count)| (placement::Column::Token(self.token(name)), u64::from(*count)))
            .collect();
        let plain: placement::Held =
            fixed.into_iter().chain(tokens).map(|(column, amount)| (column, amount.saturating_mul(size))).collect();
        let for_good = self.for_good_of(spec);
        if wanted.gpus.is_empty() {
            let mut held = plain;
            for_good.iter().for_each(|more| held.add(more, 1));
            return vec![Need { held, any_model: false }];
        }
        let mut for_good = for_good.into_iter();
        let need = |request: &flowyard_model::GpuRequest| {
            let milli = u64::from(request.count) * u64::from(request.share_milli) * size;
            let mut held = plain.clone().with(placement::Column::Gpus, milli);
            for_good.next().iter().for_each(|more| held.add(more, 1));
            match &request.model {
                None => Need { held, any_model: true },
                Some(model) => {
                    Need { held: held.with(placement::Column::Gpu(self.model(model)), milli), any_model: false }
                }
            }
        };
        wanted.gpus.iter().map(need).collect()
    }

    /// By each alternative, what a task holds for good of what is bounded. Devices of any model count as of each model,
    /// since it is not known before which they are.
    fn for_good_of(&self, spec: &StepSpec) -> Vec<placement::Held> {
        let of_alternative = |alternative: usize| {
            let mut held = Held::NONE;
            if spec.preemptible {
                return placement::Held::NONE;
            }
            (0..spec.size).for_each(|_| held.add(&Held::by_request(&spec.resources, alternative as u32)));
            let any = spec.resources.gpus.get(alternative).is_some_and(|request| request.model.is_none());
            let mut for_good = self.for_good(&held);
            let is_model = |token: &&Token| matches!(token, Token::ForGood(field) if field.starts_with("gpu."));
            for token in self.tokens.known.keys().filter(is_model).filter(|_| any) {
                let column = placement::Column::Token(self.tokens.get(token).unwrap_or(0));
                for_good = for_good.with(column, held.get(Column::GPUS));
            }
            for_good
        };
        (0..spec.resources.gpus.len().max(1)).map(of_alternative).collect()
    }

    /// As many of each token as is told of it.
    pub(crate) fn tokens<'n>(&mut self, tokens: impl Iterator<Item = (&'n Name, u64)>) -> placement::Held {
        tokens.map(|(name, count)| (placement::Column::Token(self.token(name)), count)).collect()
    }

    /// The column of a resource.
    pub(crate) fn column(&mut self, column: Column<'_>) -> placement::Column {
        match column {
            Column::Cpu => placement::Column::Cpu,
            Column::Memory => placement::Column::Memory,
            Column::Disk => placement::Column::Disk,
            Column::Gpu(GpuClass::Any) => placement::Column::Gpus,
            Column::Gpu(GpuClass::Model(model)) => placement::Column::Gpu(self.model(model)),
            Column::Token(name) => placement::Column::Token(self.token(name)),
        }
    }

    /// Decayed use as if it had been held all the time.
    pub(crate) fn average(&mut self, decayed: &Usage) -> placement::Held {
        let all = std::iter::once((placement::Column::Gpus, decayed.get(Column::Gpu(&GpuClass::Any))));
        let columns: Vec<_> = decayed.columns().map(|(column, used)| (self.column(column), used)).chain(all).collect();
        let average =
            |used: u128| u64::try_from(used / (Account::DECAYED_PARTS * HELD_FOR_EVER_MS)).unwrap_or(u64::MAX);
        columns.into_iter().map(|(column, used)| (column, average(used))).collect()
    }

    /// What a queue says of each resource.
    pub(crate) fn named(&mut self, amounts: &QueueAmounts) -> Named {
        amounts.named().map(|(column, amount)| (self.column(column), amount)).collect()
    }

    /// What a queue is promised, also where that is nothing but something is said of borrowing: as `apply` reads it.
    pub(crate) fn promised(&mut self, queue: &Queue) -> Named {
        let any = GpuClass::Any;
        let columns = queue.reserve.named().chain(queue.borrow.named()).map(|(column, _)| column);
        let columns =
            columns.chain([Column::Gpu(&any)].into_iter().filter(|column| queue.reserve.promised(*column) > 0));
        columns.map(|column| (self.column(column), queue.reserve.promised(column))).collect()
    }

    /// What is held.
    pub(crate) fn held(&mut self, held: &Held) -> placement::Held {
        let fixed = [
            (placement::Column::Cpu, held.cpu_milli),
            (placement::Column::Memory, held.memory_bytes),
            (placement::Column::Disk, held.disk_bytes),
            (placement::Column::Gpus, held.get(Column::Gpu(&GpuClass::Any))),
        ];
        let gpus: Vec<_> =
            held.gpu_milli.iter().map(|(class, milli)| (self.column(Column::Gpu(class)), *milli)).collect();
        let tokens: Vec<_> =
            held.tokens.iter().map(|(name, count)| (self.column(Column::Token(name)), *count)).collect();
        fixed.into_iter().chain(gpus).chain(tokens).collect()
    }
}

/// How much of each device a request asks for.
pub(crate) fn portion(request: &flowyard_model::GpuRequest) -> placement::Portion {
    let flowyard_model::GpuPortion { share_milli, memory_bytes } = request.portion();
    placement::Portion { share_milli, memory_bytes }
}

/// The same level as placement calls it; its groups come in the same order.
fn link(link: flowyard_model::GpuLink) -> placement::Link {
    match link {
        flowyard_model::GpuLink::Nvlink => placement::Link::Nvlink,
        flowyard_model::GpuLink::Pcie => placement::Link::Pcie,
        flowyard_model::GpuLink::Numa => placement::Link::Numa,
    }
}
