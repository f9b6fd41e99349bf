//! Numbers as Java writes them.

/// `Double.toString`: the fewest digits that tell the number apart, `1.0E10` from ten million on.
pub fn java_f64(value: f64) -> String {
    java(
        value.is_nan(),
        value.is_infinite(),
        value < 0.0,
        value == 0.0,
    )
    .map(|fixed| sign_of_zero(fixed, value.is_sign_negative()))
    .unwrap_or_else(|| notation(&format!("{value:e}")))
}

/// `Float.toString`.
pub fn java_f32(value: f32) -> String {
    java(
        value.is_nan(),
        value.is_infinite(),
        value < 0.0,
        value == 0.0,
    )
    .map(|fixed| sign_of_zero(fixed, value.is_sign_negative()))
    .unwrap_or_else(|| notation(&format!("{value:e}")))
}

fn java(nan: bool, infinite: bool, negative: bool, zero: bool) -> Option<&'static str> {
    match (nan, infinite, negative, zero) {
        (true, ..) => Some("NaN"),
        (_, true, true, _) => Some("-Infinity"),
        (_, true, false, _) => Some("Infinity"),
        (.., true) => Some("0.0"),
        _ => None,
    }
}

fn sign_of_zero(fixed: &str, negative: bool) -> String {
    match (fixed, negative) {
        ("0.0", true) => "-0.0".into(),
        (fixed, _) => fixed.into(),
    }
}

/// From Rust's `1.2345e3` to Java's `1234.5` or `1.2345E10`.
fn notation(scientific: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    if !(-3..7).contains(&exponent) {
        let rest = if digits.len() > 1 { &digits[1..] } else { "0" };
        return format!("{sign}{}.{rest}E{exponent}", &digits[..1]);
    }
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}.0", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_java_writes_doubles() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (1234.5, "1234.5"),
            (9_999_999.0, "9999999.0"),
            (10_000_000.0, "1.0E7"),
            (1.234e10, "1.234E10"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (0.015, "0.015"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::MAX, "1.7976931348623157E308"),
        ] {
            assert_eq!(java_f64(value), text);
        }
        assert_eq!(java_f32(0.1), "0.1");
        assert_eq!(java_f32(f32::MAX), "3.4028235E38");
    }
}
