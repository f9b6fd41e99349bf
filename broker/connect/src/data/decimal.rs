//! Decimal numbers: an integer of any size, and how many of its digits stand after the point.

use std::fmt;
use std::str::FromStr;

use num_bigint::{BigInt, Sign};

/// Digits that a decimal may have, scale included: more is no number that somebody measured, and
/// `1e999999999` must not be written out.
pub const MAX_DIGITS: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    unscaled: BigInt,
    scale: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number of at most {MAX_DIGITS} digits")]
pub struct DecimalError;

impl Decimal {
    pub fn new(unscaled: impl Into<BigInt>, scale: i32) -> Result<Decimal, DecimalError> {
        let unscaled = unscaled.into();
        let most = MAX_DIGITS as u32;
        if scale.unsigned_abs() > most || unscaled.bits() > u64::from(most) * 3 {
            return Err(DecimalError);
        }
        Ok(Decimal { unscaled, scale })
    }

    pub fn zero() -> Decimal {
        Decimal {
            unscaled: BigInt::ZERO,
            scale: 0,
        }
    }

    /// From Connect's bytes: the unscaled value in two's complement, most significant byte first.
    pub fn from_bytes(bytes: &[u8], scale: i32) -> Result<Decimal, DecimalError> {
        if bytes.is_empty() || bytes.len() > MAX_DIGITS {
            return Err(DecimalError);
        }
        Decimal::new(BigInt::from_signed_bytes_be(bytes), scale)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.unscaled.to_signed_bytes_be()
    }

    pub fn scale(&self) -> i32 {
        self.scale
    }

    pub fn unscaled(&self) -> &BigInt {
        &self.unscaled
    }

    /// The same number with another scale, if no digit other than zero is lost.
    pub fn rescale(&self, scale: i32) -> Option<Decimal> {
        let more = scale.checked_sub(self.scale)?;
        if more.unsigned_abs() as usize > MAX_DIGITS {
            return None;
        }
        let factor = BigInt::from(10u8).pow(more.unsigned_abs());
        let unscaled = if more >= 0 {
            &self.unscaled * factor
        } else if (&self.unscaled % &factor) == BigInt::ZERO {
            &self.unscaled / factor
        } else {
            return None;
        };
        Decimal::new(unscaled, scale).ok()
    }

    pub fn to_f64(&self) -> f64 {
        // The text has the digits; the parser rounds once.
        format!("{}e{}", self.unscaled, -i64::from(self.scale))
            .parse()
            .unwrap_or(f64::NAN)
    }

    /// Digits after the point are cut; what does not fit wraps, as `BigDecimal.longValue`.
    pub fn to_i64_wrapping(&self) -> i64 {
        let whole = if self.scale > 0 {
            &self.unscaled / BigInt::from(10u8).pow(self.scale.unsigned_abs())
        } else {
            &self.unscaled * BigInt::from(10u8).pow(self.scale.unsigned_abs())
        };
        let bytes = whole.to_signed_bytes_be();
        let fill = if whole.sign() == Sign::Minus { 0xff } else { 0 };
        let mut last = [fill; 8];
        let taken = bytes.len().min(8);
        last[8 - taken..].copy_from_slice(&bytes[bytes.len() - taken..]);
        i64::from_be_bytes(last)
    }
}

/// As `new BigDecimal(text)`.
impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Decimal, DecimalError> {
        if text.len() > MAX_DIGITS {
            return Err(DecimalError);
        }
        let (number, exponent) = match text.find(['e', 'E']) {
            Some(at) => (
                &text[..at],
                text[at + 1..].parse::<i32>().map_err(|_| DecimalError)?,
            ),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let unsigned = whole.strip_prefix(['+', '-']).unwrap_or(whole);
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if unsigned.len() + fraction.len() == 0 || !digits(unsigned) || !digits(fraction) {
            return Err(DecimalError);
        }
        let unscaled = format!("{whole}{fraction}");
        let unscaled = unscaled.strip_prefix('+').unwrap_or(&unscaled);
        let scale = (fraction.len() as i32).checked_sub(exponent);
        Decimal::new(
            BigInt::from_str(unscaled).map_err(|_| DecimalError)?,
            scale.ok_or(DecimalError)?,
        )
    }
}

/// Plain notation, never with an exponent (`BigDecimal.toPlainString`): JSON readers that know no
/// exponent in a decimal get none.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.unscaled.magnitude().to_string();
        if self.unscaled.sign() == Sign::Minus {
            f.write_str("-")?;
        }
        if self.scale <= 0 {
            let zeros = if digits == "0" {
                0
            } else {
                self.scale.unsigned_abs()
            };
            return write!(f, "{digits}{}", "0".repeat(zeros as usize));
        }
        let scale = self.scale as usize;
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        write!(f, "{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes() {
        for (text, plain, scale) in [
            ("0", "0", 0),
            ("1.50", "1.50", 2),
            ("-0.05", "-0.05", 2),
            ("+7", "7", 0),
            (".5", "0.5", 1),
            ("1e3", "1000", -3),
            ("12E-4", "0.0012", 4),
            (
                "123456789012345678901234567890.1",
                "123456789012345678901234567890.1",
                1,
            ),
        ] {
            let decimal: Decimal = text.parse().unwrap();
            assert_eq!(decimal.to_string(), plain, "{text}");
            assert_eq!(decimal.scale(), scale, "{text}");
            assert_eq!(Decimal::from_bytes(&decimal.to_bytes(), scale), Ok(decimal));
        }
        for text in [
            "",
            ".",
            "-",
            "1.2.3",
            "1e",
            "0x1",
            "1e99999999",
            "1-",
            "--1",
            "1.-2",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
        // From the documentation of Connect's Decimal: 1.56 with scale 2 is the byte 0x9c as 0x009c.
        assert_eq!("1.56".parse::<Decimal>().unwrap().to_bytes(), [0, 0x9c]);
    }

    #[test]
    fn rescaling_and_narrowing() {
        let d = |text: &str| text.parse::<Decimal>().unwrap();
        assert_eq!(d("1.5").rescale(3).unwrap().to_string(), "1.500");
        assert_eq!(d("1.50").rescale(1).unwrap().to_string(), "1.5");
        assert_eq!(d("1.55").rescale(1), None);
        assert_eq!(d("-7.9").to_i64_wrapping(), -7);
        assert_eq!(d("18446744073709551615").to_i64_wrapping(), -1);
        assert_eq!(d("0.1").to_f64(), 0.1);
    }
}
