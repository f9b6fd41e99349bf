use super::*;

fn joda(pattern: &str, time_ms: i64, zone: &str) -> String {
    let pattern = Pattern::parse(pattern, Dialect::Joda, &Locale::english()).unwrap();
    pattern.format(time_ms, zone.parse().unwrap()).unwrap()
}

fn java(pattern: &str) -> Pattern {
    Pattern::parse(pattern, Dialect::SimpleDateFormat, &Locale::english()).unwrap()
}

/// 2026-01-03T15:04:05.678Z, a Saturday.
const TIME: i64 = 1_767_452_645_678;

#[test]
fn every_letter_of_joda() {
    for (pattern, text) in [
        ("'dt'=YYYY-MM-dd/'hour'=HH", "dt=2026-01-03/hour=15"),
        ("yyyy yy y YY", "2026 26 2026 26"),
        ("G C xxxx ww w e", "AD 20 2026 01 1 6"),
        ("E EEE EEEE", "Sat Sat Saturday"),
        ("D DDD M MM MMM MMMM d", "3 003 1 01 Jan January 3"),
        ("a K h H k KK hh", "PM 3 3 15 15 03 03"),
        ("m:s S SS SSS SSSSSS", "4:5 6 67 678 678000"),
        ("z Z ZZ ZZZ", "UTC +0000 +00:00 UTC"),
        ("'it''s' ''yyyy''", "it's '2026'"),
    ] {
        assert_eq!(joda(pattern, TIME, "UTC"), text, "{pattern}");
    }
    assert_eq!(
        joda("HH z ZZ ZZZ", TIME, "Europe/Paris"),
        "16 CET +01:00 Europe/Paris"
    );
    assert_eq!(joda("HH:mm", TIME, "+05:30"), "20:34");
    assert_eq!(joda("kk hh KK", 0, "UTC"), "24 12 00");
}

#[test]
fn what_is_unknown_is_refused() {
    let parse = |text, dialect| Pattern::parse(text, dialect, &Locale::english()).unwrap_err();
    assert_eq!(
        parse("yyyy-bb", Dialect::Joda),
        PatternError::UnknownLetter('b')
    );
    assert_eq!(parse("u", Dialect::Joda), PatternError::UnknownLetter('u'));
    assert_eq!(
        parse("XXXX", Dialect::SimpleDateFormat),
        PatternError::UnknownLetter('X')
    );
    assert_eq!(parse("'dt", Dialect::Joda), PatternError::OpenQuote);
    assert_eq!(parse("", Dialect::Joda), PatternError::Empty);
    assert!(matches!(
        parse("zzzz", Dialect::Joda),
        PatternError::LongZoneName(_)
    ));
    let german: Locale = "de-DE".parse().unwrap();
    assert!(Pattern::parse("yyyy-MM", Dialect::Joda, &german).is_ok());
    let names = Pattern::parse("MMM", Dialect::Joda, &german);
    assert_eq!(names, Err(PatternError::NamesNotBuilt("de-DE".into())));
    for zone in ["Paris", "+25:00", "+1:2:3", "é"] {
        assert!(zone.parse::<Zone>().is_err(), "{zone}");
    }
}

/// Expected values are those of a JVM with locale en_US.
#[test]
fn weeks_of_simple_date_format() {
    for (date, text) in [
        ("2025-12-27", "2025 52"),
        ("2025-12-28", "2026 01"),
        ("2026-01-03", "2026 01"),
        ("2026-01-04", "2026 02"),
        ("2027-01-01", "2027 01"),
    ] {
        let time = parse_iso(date, Zone::UTC).unwrap();
        assert_eq!(
            java("YYYY ww").format(time, Zone::UTC).unwrap(),
            text,
            "{date}"
        );
    }
}

#[test]
fn reads_what_it_writes() {
    for pattern in [
        "yyyy-MM-dd'T'HH:mm:ss.SSSX",
        "yyyyMMddHHmmssSSS",
        "EEE, d MMM yyyy hh:mm:ss.SSS a z",
        "yyyy-DDD HH:mm:ss.SSS Z",
        "yy-MM-dd kk:mm:ss.SSS",
    ] {
        let pattern = java(pattern);
        for time in [
            TIME,
            0,
            951_782_400_000,
            1_767_452_645_678 + 86_400_000 * 200,
        ] {
            let text = pattern.format(time, Zone::UTC).unwrap();
            assert_eq!(pattern.read(&text, Zone::UTC), Some(time), "{text}");
        }
    }
    let zone = "America/New_York".parse().unwrap();
    assert_eq!(
        java("yyyy-MM-dd HH").read("2026-07-01 00 and more", zone),
        Some(1_782_878_400_000)
    );
    for text in ["", "2026", "2026-13-01", "2026-02-30", "x", "2026-é"] {
        assert_eq!(java("yyyy-MM-dd").read(text, Zone::UTC), None, "{text}");
    }
}

#[test]
fn iso_texts() {
    assert_eq!(iso_timestamp(TIME), "2026-01-03T15:04:05.678Z");
    assert_eq!(iso_date(-1), "1969-12-31");
    assert_eq!(iso_time(86_399_999), "23:59:59.999Z");
    for text in ["2026-01-03T15:04:05.678Z", "2026-01-03T16:04:05.678+01:00"] {
        assert_eq!(parse_iso(text, Zone::UTC), Some(TIME), "{text}");
    }
    assert_eq!(
        parse_iso("2026-01-03T15:04", Zone::UTC),
        Some(1_767_452_640_000)
    );
    for text in ["", "T", "2026-01-03T", "now", "2026-01-03T25:00Z"] {
        let read = parse_iso(text, Zone::UTC);
        assert!(read.is_none() || text == "2026-01-03T", "{text}");
    }
    assert_eq!(naive(i64::MAX), None);
    assert_eq!(iso_timestamp(i64::MIN), i64::MIN.to_string());
}

#[test]
fn slices_of_local_time() {
    let paris: Zone = "Europe/Paris".parse().unwrap();
    let day = 86_400_000;
    // Midnight in Paris is 23:00 UTC in winter, 22:00 in summer.
    let start = paris.slice_start(TIME, day).unwrap();
    assert_eq!(iso_timestamp(start), "2026-01-02T23:00:00.000Z");
    let summer = parse_iso("2026-07-01T12:00Z", Zone::UTC).unwrap();
    let start = paris.slice_start(summer, day).unwrap();
    assert_eq!(iso_timestamp(start), "2026-06-30T22:00:00.000Z");
    // 02:30 on the last Sunday of March does not exist there.
    let skipped = java("yyyy-MM-dd HH:mm")
        .read("2026-03-29 02:30", paris)
        .unwrap();
    assert_eq!(iso_timestamp(skipped), "2026-03-29T01:30:00.000Z");
}
