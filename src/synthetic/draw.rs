//! Random draws by integer and IEEE 754 basic arithmetic only: no library function whose last bit differs between platforms, and no
//! distribution of a crate that may change with its version.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The draws of one encounter: `ChaCha8` keyed by the population's seed, with the encounter's id as stream.
pub(super) struct Draw(ChaCha8Rng);

/// Probability levels of a quantile table.
const LEVELS: [f64; 21] =
    [0.0, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 1.0];

/// Values of a distribution at [`LEVELS`], in ascending order.
pub(super) type Quantiles = [f64; LEVELS.len()];

impl Draw {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Uniform on [0, 1), in steps of 2^-53.
    pub(super) fn unit(&mut self) -> f64 {
        // 53 bits convert exactly.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with `probability`.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A whole number below `end`, which is small against 2^53.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }

    /// Nearly normal, mean 0 and variance 1: the sum of twelve 16-bit uniforms (Irwin-Hall), so never beyond 6.
    pub(super) fn normal(&mut self) -> f64 {
        let mut sum = 0_u32;
        for _ in 0..3 {
            let bits = self.0.next_u64();
            for shift in [0, 16, 32, 48] {
                sum += u32::from((bits >> shift) as u16);
            }
        }
        f64::from(sum) / 65536.0 - (6.0 - 12.0 * 0.5 / 65536.0)
    }

    /// The place of a weight, with probability in proportion to it; weights are not negative, and one is positive.
    pub(super) fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.unit() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (place, weight) in weights.enumerate() {
            if weight > 0.0 {
                last = place;
                if left < weight {
                    break;
                }
                left -= weight;
            }
        }
        last
    }

    /// A value of the distribution whose quantiles are given, linear between them.
    pub(super) fn quantile(&mut self, quantiles: &Quantiles) -> f64 {
        let level = self.unit();
        let above = LEVELS.iter().position(|bound| level < *bound).unwrap_or(LEVELS.len() - 1);
        let (from, to) = (LEVELS[above - 1], LEVELS[above]);
        quantiles[above - 1] + (level - from) / (to - from) * (quantiles[above] - quantiles[above - 1])
    }
}

/// `value` to `decimals` decimals: the nearest double to that decimal.
pub(super) fn round(value: f64, decimals: i32) -> f64 {
    let scale = (0..decimals).fold(1.0, |scale, _| scale * 10.0);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draws_have_the_moments_they_claim() {
        let mut draw = Draw::new(7, 1);
        let n = 50_000;
        let values: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let seconds = (0..n).filter(|_| draw.weighted([1.0, 0.0, 3.0].into_iter()) == 2).count();
        assert!((seconds as f64 / f64::from(n) - 0.75).abs() < 0.01);
        let quantiles: Quantiles = std::array::from_fn(|place| LEVELS[place] * 10.0);
        let mean = (0..n).map(|_| draw.quantile(&quantiles)).sum::<f64>() / f64::from(n);
        assert!((mean - 5.0).abs() < 0.05);
        assert!((0..n).all(|_| draw.below(3) < 3));
    }

    #[test]
    fn rounding_gives_the_double_that_the_decimal_reads_as() {
        assert_eq!(round(12.3456, 1), 12.3);
        assert_eq!(round(1.264_393_716_4, 9), 1.264_393_716);
        assert_eq!(round(57.5, 0), 58.0);
    }
}
