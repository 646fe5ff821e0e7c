package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// MaxFile is how many bytes a file may have.
const MaxFile = 1 << 20

// maxProblems is how many problems of a file are told: after so many the file is
// something else.
const maxProblems = 100

// reader reads one file.
type reader struct {
	c        *Config
	path     string
	parser   unstable.Parser
	lines    map[string]int // where each option stands
	problems Problems
}

// readFile takes the values of a file: TOML, of which it uses keys and values alone.
// After an error of the syntax, which is the last problem, nothing more can be read.
func (c *Config) readFile(path string, text []byte) Problems {
	r := &reader{c: c, path: path, lines: map[string]int{}}
	if len(text) > MaxFile {
		return Problems{{Where: path, Text: fmt.Sprintf("has too many bytes; a configuration has at most %d", MaxFile)}}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // some editors begin files with it
	// The parser knows where it is by the capacities of slices.
	r.parser.Reset(append(make([]byte, 0, len(text)), text...))
	for r.parser.NextExpression() {
		if len(r.problems) >= maxProblems {
			return append(r.problems, Problem{Where: path, Text: "has more problems than are worth telling; is it a configuration of TanoDB?"})
		}
		r.expression(r.parser.Expression())
	}
	if err := r.parser.Error(); err != nil {
		r.syntax(err)
	}
	return r.problems
}

// bad notes a problem at a place of the file.
func (r *reader) bad(at unstable.Position, format string, args ...any) {
	r.problems = append(r.problems, Problem{Where: r.path, Line: at.Line, Column: at.Column, Text: fmt.Sprintf(format, args...)})
}

// syntax notes that the file is not TOML from here on.
func (r *reader) syntax(err error) {
	var at *unstable.ParserError
	if !errors.As(err, &at) {
		r.problems = append(r.problems, Problem{Where: r.path, Text: "is not TOML: " + err.Error()})
		return
	}
	r.bad(r.shape(at.Highlight), "this is not TOML: %s", at.Message)
}

// shape is where a piece of the file begins; of an empty one, which may not know it, the
// end of the file.
func (r *reader) shape(piece []byte) unstable.Position {
	if len(piece) == 0 {
		n := uint32(len(r.parser.Data()))
		return r.parser.Shape(unstable.Range{Offset: n}).Start
	}
	return r.parser.Shape(r.parser.Range(piece)).Start
}

// after is where the value of a key begins, which not every node of the parser knows.
func (r *reader) after(key unstable.Range) unstable.Position {
	at := key.Offset + key.Length
	rest := r.parser.Data()[at:]
	return r.parser.Shape(unstable.Range{Offset: at + uint32(len(rest)-len(bytes.TrimLeft(rest, " \t=")))}).Start
}

// expression takes one key and its value.
func (r *reader) expression(e *unstable.Node) {
	var words []string
	var at unstable.Position
	var last unstable.Range
	for key := e.Key(); key.Next(); {
		last = key.Node().Raw
		if len(words) == 0 {
			at = r.parser.Shape(last).Start
		}
		words = append(words, string(key.Node().Data))
	}
	name := strings.Join(words, ".")
	if e.Kind != unstable.KeyValue {
		r.bad(at, "there are no tables in a configuration: write each option as name = value, without [%s]", clip(name))
		return
	}
	o, known := Lookup(name)
	if !known {
		r.bad(at, "%s", unknown(name))
		return
	}
	if line := r.lines[name]; line > 0 {
		r.bad(at, "%s stands here a second time; it is in line %d too", name, line)
		return
	}
	r.lines[name] = at.Line
	text, problem := r.text(&o, e.Value())
	if problem == "" {
		problem = o.parse(o.field(&r.c.Server), text)
	}
	at = r.after(last)
	if problem != "" {
		r.bad(at, "%s %s", name, problem)
		return
	}
	r.c.from[name] = origin{File, fmt.Sprintf("%s:%d:%d: %s", r.path, at.Line, at.Column, name)}
}

// text is a value of the file as the text of an option. It must be of the type that an
// option has in TOML, so that a file reads the same to every program.
func (r *reader) text(o *Option, v *unstable.Node) (text, problem string) {
	list := o.IsList()
	_, number := o.field(&Server{}).(*int)
	_, size := o.field(&Server{}).(*Bytes)
	switch {
	case v.Kind == unstable.Array && list:
		return r.list(v)
	case v.Kind == unstable.Bool && o.IsBool():
		return string(v.Data), ""
	case v.Kind == unstable.Integer && (number || size):
		n, err := strconv.ParseInt(string(v.Data), 0, 64)
		if err != nil {
			return "", fmt.Sprintf("is %s, which is no number of 64 bits", clip(string(v.Data)))
		}
		return strconv.FormatInt(n, 10), ""
	case v.Kind == unstable.String && !list && !number && !o.IsBool():
		return string(v.Data), ""
	}
	return "", fmt.Sprintf("has a value of another kind; it must be a %s, such as %s", o.kind(), o.example())
}

// list is a list of strings, with commas between them.
func (r *reader) list(v *unstable.Node) (text, problem string) {
	var parts []string
	for it := v.Children(); it.Next(); {
		n := it.Node()
		if n.Kind == unstable.Comment {
			continue
		}
		if n.Kind != unstable.String {
			return "", `has something in its list that is no text in quotes`
		}
		if strings.Contains(string(n.Data), ",") {
			return "", fmt.Sprintf("has %q in its list, with a comma; each part stands in quotes of its own", clip(string(n.Data)))
		}
		parts = append(parts, string(n.Data))
	}
	return strings.Join(parts, ","), ""
}
