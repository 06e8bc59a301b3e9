//! How people write a resource that queues are bounded by, and an amount of it.

use crate::{ByteCount, Column, GpuClass, Thousandths};

impl Column<'_> {
    /// The resource, as a queue file spells it: `cpu`, `gpu.h100`, `tokens.matlab`.
    pub fn field(self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Memory => "memory".to_owned(),
            Self::Disk => "disk".to_owned(),
            Self::Gpu(class) => format!("gpu.{class}"),
            Self::Token(name) => format!("tokens.{name}"),
        }
    }

    /// An amount of it, exactly, as a queue file has it.
    pub fn amount(self, number: u64) -> String {
        match self {
            Self::Cpu | Self::Gpu(_) => Thousandths(number).to_string(),
            Self::Memory | Self::Disk => ByteCount(number).to_string(),
            Self::Token(_) => number.to_string(),
        }
    }

    /// All devices, of whatever model.
    pub const GPUS: Column<'static> = Column::Gpu(&GpuClass::Any);
}
