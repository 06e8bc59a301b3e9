//! The driver's numbers of MIG instances, which the device nodes that grant them go by. The library that is used for everything else
//! does not ask for them, so they are asked for here, by the same functions of the same driver.

use nvml_wrapper::Device;
use nvml_wrapper_sys::bindings::NvmlLib;

/// The driver's library, which is loaded already.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// How its functions say that all went well.
const SUCCESS: u32 = 0;

/// The numbers of the GPU instance and of the compute instance that a MIG device is.
pub(super) fn numbers(device: &Device<'_>) -> Option<(u32, u32)> {
    // SAFETY: loading it runs nothing that was not run when the driver was asked for the device.
    let library = unsafe { NvmlLib::new(LIBRARY) }.ok()?;
    // A driver without MIG has neither.
    library.nvmlDeviceGetGpuInstanceId.as_ref().ok()?;
    library.nvmlDeviceGetComputeInstanceId.as_ref().ok()?;
    let (mut gpu, mut compute) = (0, 0);
    // SAFETY: the handle is the driver's own and lives as long as `device`; both numbers are written where they are.
    let asked = unsafe {
        let handle = device.handle();
        [
            library.nvmlDeviceGetGpuInstanceId(handle, &raw mut gpu),
            library.nvmlDeviceGetComputeInstanceId(handle, &raw mut compute),
        ]
    };
    (asked == [SUCCESS; 2]).then_some((gpu, compute))
}
