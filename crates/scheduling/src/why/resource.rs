//! A resource that queues are bounded by, as a value of its own.

use flowyard_model::{Column, GpuClass, Held, Name, QueueAmounts};

/// One resource of those that queues are bounded by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Thousandths of a CPU.
    Cpu,
    /// Memory in bytes.
    Memory,
    /// Scratch space in bytes.
    Disk,
    /// Thousandths of the devices of a class.
    Gpu(GpuClass),
    /// A token.
    Token(Name),
}

impl Resource {
    /// The resource of a column.
    pub fn of(column: Column<'_>) -> Self {
        match column {
            Column::Cpu => Self::Cpu,
            Column::Memory => Self::Memory,
            Column::Disk => Self::Disk,
            Column::Gpu(class) => Self::Gpu(class.clone()),
            Column::Token(name) => Self::Token(name.clone()),
        }
    }

    /// Its column.
    pub fn column(&self) -> Column<'_> {
        match self {
            Self::Cpu => Column::Cpu,
            Self::Memory => Column::Memory,
            Self::Disk => Column::Disk,
            Self::Gpu(class) => Column::Gpu(class),
            Self::Token(name) => Column::Token(name),
        }
    }

    /// Everything that somebody who needs this asks for: devices by their model, and all of them together.
    pub(crate) fn asked(need: &Held) -> Vec<(Self, u64)> {
        let devices = (Self::Gpu(GpuClass::Any), need.get(Column::GPUS));
        // Devices of whatever model are under no name.
        let nameless = GpuClass::model("");
        let named = need.columns().filter(|(column, _)| *column != Column::Gpu(&nameless));
        let named = named.map(|(column, amount)| (Self::of(column), amount));
        named.chain([devices]).filter(|(_, amount)| *amount > 0).collect()
    }

    /// Names another amount of it.
    pub(crate) fn set(&self, amounts: &mut QueueAmounts, amount: u64) {
        match self {
            Self::Cpu => amounts.cpu_milli = Some(amount),
            Self::Memory => amounts.memory_bytes = Some(amount),
            Self::Disk => amounts.disk_bytes = Some(amount),
            Self::Gpu(class) => drop(amounts.gpu_milli.insert(class.clone(), amount)),
            Self::Token(name) => drop(amounts.tokens.insert(name.clone(), amount)),
        }
    }
}
