"""What every client suite shares: the broker under test, the cache of installed clients, the suites."""
