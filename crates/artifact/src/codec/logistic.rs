//! Logarithms of odds in whole numbers: the arithmetic in which predictions are mixed.
//!
//! A prediction is a probability p in 1/2¹⁶; its logit is log₂(p / (1 − p)) in 1/4096. Tables are computed by the
//! compiler from integers alone, so that every machine mixes to the same bit.

/// Bits behind the point of a logit and of a cost.
pub(super) const FRACTION: u32 = 12;
/// Logits stay between this and its negative.
pub(super) const LIMIT: i32 = (16 << FRACTION) - 1;

const SCALE: u32 = 1 << 16;

/// Logarithms of 1 + i/1024 to base 2, in 1/4096.
const LOG: [u16; 1024] = {
    let mut table = [0u16; 1024];
    let mut index = 0;
    while index < 1024 {
        // Digit by digit: squaring doubles the logarithm.
        let mut value = ((1024 + index) as u128) << 50;
        let mut log = 0u16;
        let mut digit = 0;
        while digit <= FRACTION {
            value = (value * value) >> 60;
            log <<= 1;
            if value >> 61 != 0 {
                value >>= 1;
                log |= 1;
            }
            digit += 1;
        }
        // One digit more than kept, to round.
        table[index] = (log + 1) >> 1;
        index += 1;
    }
    table
};

/// Steps of the table of probabilities for one power of two.
const STEPS: usize = 64;

/// 2^(i/64) in 1/2³⁰.
const POWER: [u64; STEPS] = {
    const ONE: u128 = 1 << 60;
    // The sixth square root of two.
    let mut root = ONE * 2;
    let mut halving = 0;
    while halving < 6 {
        root = (root << 60).isqrt();
        halving += 1;
    }
    let mut table = [0u64; STEPS];
    let mut power = ONE;
    let mut index = 0;
    while index < STEPS {
        table[index] = (power >> 30) as u64;
        power = (power * root) >> 60;
        index += 1;
    }
    table
};

/// Probabilities of the logits −16, −16 + 1/64, … 16, in 1/2³².
const PROBABILITY: [u32; 32 * STEPS + 1] = {
    let mut table = [0u32; 32 * STEPS + 1];
    let mut index = 0;
    while index <= 32 * STEPS {
        // p = 2^x / (1 + 2^x), with the power in 1/2^(30 + 16).
        let power = (POWER[index % STEPS] as u128) << (index / STEPS);
        table[index] = ((power << 32) / (power + (1 << 46))) as u32;
        index += 1;
    }
    table
};

/// The logarithm of a whole number from 1 to 2¹⁶ to base 2, in 1/4096.
const fn log(value: u32) -> u32 {
    let exponent = value.ilog2();
    // The leading one and the ten bits behind it, rounded down.
    let mantissa = (value << (16 - exponent)) >> 6;
    (exponent << FRACTION) + LOG[(mantissa & 1023) as usize] as u32
}

/// The logarithm of a whole number to base 2, in 1/4096; of 0 as of 1.
pub(super) fn log2(value: u64) -> i32 {
    let value = value.max(1);
    let shift = value.ilog2().saturating_sub(15);
    (log((value >> shift) as u32) + (shift << FRACTION)) as i32
}

/// The logit of a probability.
pub(super) fn stretch(probability: u32) -> i32 {
    let probability = probability.clamp(1, SCALE - 1);
    (log(probability) as i32) - (log(SCALE - probability) as i32)
}

/// The probability of a logit, from 1 to 2¹⁶ − 1.
pub(super) fn squash(logit: i32) -> u32 {
    const STEP: u32 = (1 << FRACTION) / STEPS as u32;
    let place = (logit.clamp(-LIMIT, LIMIT) + (16 << FRACTION)) as u32;
    let (index, rest) = ((place / STEP) as usize, u64::from(place % STEP));
    let (a, b) = (u64::from(PROBABILITY[index]), u64::from(PROBABILITY[index + 1]));
    let value = a + (b - a) * rest / u64::from(STEP);
    ((value + (1 << 15)) >> 16).clamp(1, u64::from(SCALE) - 1) as u32
}

/// What a symbol of this probability costs, in 1/4096 of a bit.
pub(super) fn cost(probability: u32) -> u32 {
    (16 << FRACTION) - log(probability.clamp(1, SCALE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_logarithms() {
        for probability in 1..SCALE {
            let p = f64::from(probability) / f64::from(SCALE);
            let exact = (p / (1.0 - p)).log2() * 4096.0;
            let found = f64::from(stretch(probability));
            assert!((exact - found).abs() < 8.0, "{probability}: {found} instead of {exact}");
            let back = f64::from(squash(stretch(probability)));
            let tolerance = 2.0 + f64::from(probability.min(SCALE - probability)) / 300.0;
            assert!((back - f64::from(probability)).abs() < tolerance, "{probability} became {back}");
            let exact = -p.log2() * 4096.0;
            assert!((exact - f64::from(cost(probability))).abs() < 8.0, "{probability}");
        }
        assert_eq!((squash(0), stretch(SCALE / 2), cost(SCALE)), (SCALE / 2, 0, 0));
        assert_eq!((squash(i32::MIN), squash(i32::MAX)), (1, SCALE - 1));
    }

    #[test]
    fn squash_never_falls() {
        let values: Vec<u32> = (-LIMIT..=LIMIT).map(squash).collect();
        assert!(values.is_sorted());
    }
}
