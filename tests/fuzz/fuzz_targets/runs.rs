#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alluvium_fuzz::runs::run(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let known = alluvium_fuzz::run_footers::mutate(data, size, max_size, seed);
    known.unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
