package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPercentEncodeIsUndone(t *testing.T) {
	n := nameFlags{Encoded: true}
	rapid.Check(t, func(t *rapid.T) {
		key := string(rapid.SliceOf(rapid.Byte()).Draw(t, "key"))
		word := percentEncode(key)
		if strings.ContainsAny(word, " \t\n'\"\\$`*?&;|<>(){}[]#!") {
			t.Fatalf("%q is not one word of a shell", word)
		}
		got, err := n.decode("key", word)
		if err != nil || got != key {
			t.Fatalf("%q became %q and then %q, %v", key, word, got, err)
		}
	})
}

func TestShowText(t *testing.T) {
	for text, want := range map[string]string{
		"k1":       "k1",
		"größe":    "größe",
		"a b":      "a b",
		" a":       `" a"`,
		"a\n":      `"a\n"`,
		"a\x00b":   `"a\x00b"`,
		"\xff":     `"\xff"`,
		`"quoted"`: `"\"quoted\""`,
		"":         `""`,
		"\x1b[31m": `"\x1b[31m"`,
	} {
		if got := showText(text); got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                 "0s",
		85*time.Microsecond + 400:         "85µs",
		1234567 * time.Nanosecond:         "1.23ms",
		2345 * time.Millisecond:           "2.35s", // to the nearest 10 ms
		61*time.Second + time.Millisecond: "1m1s",
	} {
		if got := brief(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	tab := newTable("A", "BB", "C")
	tab.row("1")
	tab.row("long", "2", "3")
	want := "A     BB  C\n1\nlong  2   3\n"
	if got := tab.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestQuoteForShell(t *testing.T) {
	for text, want := range map[string]string{
		"tanodb":      "tanodb",
		"./bin/x-1":   "./bin/x-1",
		"a b":         "'a b'",
		"it's":        `'it'\''s'`,
		"":            "''",
		"~x":          "'~x'",
		"$HOME/a;b":   "'$HOME/a;b'",
		"größe":       "'größe'",
		"http://h:80": "http://h:80",
	} {
		if got := quoteForShell(text); got != want {
			t.Errorf("%q becomes %s, want %s", text, got, want)
		}
	}
}

func TestProgramName(t *testing.T) {
	goRun := filepath.Join("tmp", "go-build123", "b001", "exe", "tanodb")
	if got := programName("/usr/bin/tanodb", "tanodb"); got != "tanodb" {
		t.Errorf("an installed program is called %s", got)
	}
	if got := programName(goRun, goRun); got != goRun {
		t.Errorf("started by go run elsewhere it is called %s, want its path", got)
	}
	t.Chdir(filepath.Join("..", ".."))
	if got := programName(goRun, goRun); got != "go run ./cmd/tanodb" {
		t.Errorf("started by go run in the repository it is called %s", got)
	}
}

func TestParseBase(t *testing.T) {
	for addr, want := range map[string]string{
		"http://127.0.0.1:8098":  "http://127.0.0.1:8098",
		"http://127.0.0.1:8098/": "http://127.0.0.1:8098",
		"127.0.0.1:8098":         "http://127.0.0.1:8098",
		"node":                   "http://node",
		"https://node":           "https://node",
		"http://[::1]:8098":      "http://[::1]:8098",
		"":                       "",
		"ftp://x":                "",
		"http://":                "",
		"http://x:0x1":           "",
		"http://x:65536":         "",
		"http://x/path":          "",
		"http://x?q":             "",
		"http://a b":             "",
	} {
		got, err := parseBase(addr)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", addr, got, err, want)
		}
	}
}
