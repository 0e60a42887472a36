//! The engine alone: trains, writes a head file, reads it back and labels with it, without
//! a serial line. Nobody runs it; what the linker keeps of it is what the engine takes.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod engine {
    use core::hint::black_box;

    use cortex_m_rt::entry;
    use fieldtune_core::adversary::Adversary;
    use fieldtune_core::decay::{Decay, Mode};
    use fieldtune_core::device::sizes;
    use fieldtune_core::head::Head;
    use fieldtune_core::optimizer::Optimizer;
    use fieldtune_core::predict::{logits, probabilities};
    use fieldtune_core::train::{Options, Samples, Trainer, fit};
    use fieldtune_core::{Error, Kernel};

    /// Samples in memory, `[N, F]`.
    struct Rows<'a>(&'a [f32], usize);

    impl Samples for Rows<'_> {
        fn len(&self) -> usize {
            self.0.len() / self.1
        }

        fn read(&self, index: usize, features: &mut [f32]) -> u16 {
            let row = self.0.chunks_exact(self.1).nth(index);
            features.copy_from_slice(row.unwrap_or_default());
            index as u16 % 2
        }
    }

    /// Reads a head, trains its layers anew, writes it, and labels a sample. Which layers and
    /// options those are, the compiler cannot know.
    fn whole(
        arena: &mut [f32],
        samples: &[f32],
        order: &mut [u32],
        file: &mut [u8],
    ) -> Result<f32, Error> {
        let head = Head::decode(black_box(&[]))?;
        let network = head.network()?;
        let kernel = Kernel::lanes();
        let options = black_box(Options {
            optimizer: Optimizer::ADAMW,
            decay: Decay {
                mode: Mode::Structural,
                lambda: 1.0,
            },
            adversary: Some(Adversary::new(0.1)),
            ..Options::new(8, kernel)
        });
        let rows = Rows(samples, network.inputs().max(1));
        let mut trainer = Trainer::new(&network, options, arena, 0)?;
        let mut labels = [0; sizes::BATCH];
        fit(&mut trainer, &rows, 10, 0.1, order, &mut labels)?;
        head.encode(file)?;
        let (parameters, rest) = arena.split_at_mut(network.parameter_elements());
        let (row, rest) = rest.split_at_mut(network.inputs());
        head.transform.apply(row);
        let (outputs, work) = rest.split_at_mut(network.classes());
        logits(&network, parameters, kernel, row, work, outputs)?;
        probabilities(outputs, network.classes(), head.temperature);
        Ok(outputs[0] + head.unknown.score(row))
    }

    #[entry]
    fn main() -> ! {
        static mut ARENA: [f32; sizes::ARENA_ELEMENTS] = [0.0; _];
        static mut SAMPLES: [f32; 1024] = [0.0; _];
        static mut ORDER: [u32; sizes::SAMPLES] = [0; _];
        static mut FILE: [u8; 16 * 1024] = [0; _];
        loop {
            let _ = black_box(whole(ARENA, SAMPLES, ORDER, FILE));
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        cortex_m::peripheral::SCB::sys_reset()
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program is for a Cortex-M and only measured: targets/cortex-m/sizes");
    std::process::exit(2);
}
