package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/config"
)

// guides are the pages for users whose blocks are all tried, each by its mark:
//
//	console   commands and what they print: run, and compared, as the tour is
//	sh        commands that need other machines, or root: those of tanodb are parsed
//	toml      a file of options: read
//	text      what is neither
var guides = []string{"install.md", "guarantees.md", "tuning.md", "riak.md", "faq.md"}

// block is a fenced block of a page.
type block struct {
	line int // in the page, of its first line
	mark string
	text string
}

// blocks are those of a page.
func blocks(page string) []block {
	var all []block
	inside := false
	for i, line := range strings.Split(page, "\n") {
		text := strings.TrimLeft(line, " ") // within a list it is indented
		mark, fence := strings.CutPrefix(text, "```")
		switch {
		case fence && !inside:
			all = append(all, block{line: i + 2, mark: mark})
			inside = true
		case fence:
			inside = false
		case inside:
			all[len(all)-1].text += text + "\n"
		}
	}
	return all
}

func TestGuides(t *testing.T) {
	for _, name := range guides {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("..", "..", "docs", name)
			page, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			runs := false
			for _, b := range blocks(string(page)) {
				switch b.mark {
				case "console":
					runs = true
				case "sh":
					for _, problem := range parseScript(b.text) {
						t.Errorf("%s:%d: %s", name, b.line, problem)
					}
				case "toml":
					if err := starts(config.Input{Path: name, Text: []byte(b.text)}); err != nil {
						t.Errorf("%s:%d: %v", name, b.line, err)
					}
				case "text":
				default:
					t.Errorf("%s:%d: a block is marked %q, and nothing tries it", name, b.line, b.mark)
				}
			}
			if runs {
				runPage(t, path)
			}
		})
	}
}

// parseScript has the parser of the command line read each command of a script that is
// one of tanodb, and says what it refuses.
func parseScript(script string) []string {
	var problems []string
	for _, line := range strings.Split(strings.ReplaceAll(script, "\\\n", " "), "\n") {
		words, err := shellWords(line)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", line, err))
		}
		for _, command := range words {
			if err := parseCommand(command); err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", line, err))
			}
		}
	}
	return problems
}

// parseCommand parses a command of tanodb. Others, and what comes before the name as
// sudo does, are left alone; of kubectl exec it is that of the container.
func parseCommand(words []string) error {
	if len(words) > 0 && words[0] == "sudo" {
		words = words[1:]
	}
	if i := slices.Index(words, "--"); i > 0 && words[0] == "kubectl" && i+1 < len(words) { // within a container
		words = append([]string{filepath.Base(words[i+1])}, words[i+2:]...)
	}
	for len(words) > 0 && strings.Contains(words[0], "=") { // variables of the environment
		words = words[1:]
	}
	if len(words) == 0 || words[0] != "tanodb" {
		return nil
	}
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		return err
	}
	if _, err := parser.Parse(words[1:]); err != nil || words[1] != "serve" {
		return err
	}
	return starts(config.Input{Flags: c.Serve.given()})
}

// starts is why a node would not start by its options.
func starts(in config.Input) error {
	c, err := config.Load(in)
	if err != nil {
		return err
	}
	return c.Exposed()
}

// shellWords are the commands of a line, each as its words: quotes are taken away, what
// follows # is left out, and so is where output goes.
func shellWords(line string) ([][]string, error) {
	var all [][]string
	var words []string
	var word strings.Builder
	var quote rune
	begun := false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	split := func() {
		end()
		if len(words) > 0 {
			all = append(all, words)
		}
		words = nil
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == '#' && !begun:
			split()
			return all, nil
		case r == ' ' || r == '\t':
			end()
		case strings.ContainsRune("|&;>", r):
			split()
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	split()
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	return all, nil
}

func TestParseScript(t *testing.T) {
	for script, want := range map[string]string{
		"tanodb ping\n":          "",
		"sudo apt-get install x": "",
		"tanodb pong":            "pong",
		"tanodb get b":           "<key>",
		"sudo tanodb serve --http 127.0.0.1:8098 \\\n  --listen nowhere": "nowhere",
		"tanodb serve --http 0.0.0.0:8098":                               "nothing protects it",
		"tanodb put b k 'a b' # a word":                                  "",
		"tanodb get b k | tanodb putt b k2 -":                            "putt",
		"kubectl exec n -- /usr/bin/tanodb pong":                         "pong",
		"A=b tanodb get b k --zork > x":                                  "--zork",
		"tanodb put b 'k":                                                "quote",
	} {
		got := strings.Join(parseScript(script), "\n")
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want one with %q", script, got, want)
		}
	}
}
