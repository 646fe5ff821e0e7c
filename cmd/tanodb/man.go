package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
)

type manCmd struct{}

// Help is the long part of the command's help.
func (*manCmd) Help() string {
	return `It has every command and every flag, and is made from the same words as --help.

Example:

    tanodb man > /usr/local/share/man/man1/tanodb.1
    tanodb man | man -l -`
}

// Run prints the page.
func (*manCmd) Run(a *app, k *kong.Kong) error {
	_, err := io.WriteString(a.stdout, manPage(k.Model.Node, thisVersion().Version))
	return err
}

// manPage is the whole command line as one page for man, in the macros of man(7). It
// has no date: of one version it is always the same.
func manPage(root *kong.Node, version string) string {
	p := &manText{}
	p.line(`.TH TANODB 1 "" "TanoDB ` + roff(version) + `" "TanoDB"`)
	p.line(".SH NAME")
	p.line(`tanodb \- a masterless, replicated key/value database`)
	p.line(".SH SYNOPSIS")
	p.line(`.B tanodb`)
	p.line(`[\fIflags\fR] \fIcommand\fR [\fIarguments\fR] [\fIflags\fR]`)
	p.line(".SH DESCRIPTION")
	p.prose(root.Help)
	p.line(".SH FLAGS OF ALL COMMANDS")
	p.flags(root)
	p.line(".SH COMMANDS")
	p.commands(root)
	p.line(".SH FILES")
	p.entry("/etc/tanodb/tanodb.toml", "Where packages put the options of the node; tanodb config init prints such a file.")
	p.entry("/var/lib/tanodb", "Where packages have the node keep its data.")
	return p.b.String()
}

// manText is a page that is being written.
type manText struct{ b strings.Builder }

func (p *manText) line(s string) { p.b.WriteString(s + "\n") }

// entry is a term and what it means.
func (p *manText) entry(term, text string) {
	p.line(".TP")
	p.line(`.B ` + roff(term))
	p.line(roff(text))
}

// prose is a help text: paragraphs, and lines that are indented are shown as they are.
func (p *manText) prose(text string) {
	for _, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		p.line(".PP")
		if !strings.HasPrefix(paragraph, "    ") {
			p.line(roff(strings.Join(strings.Fields(paragraph), " ")))
			continue
		}
		p.line(".nf")
		for _, l := range strings.Split(paragraph, "\n") {
			p.line(roff(l))
		}
		p.line(".fi")
	}
}

// commands are those below a node that are not hidden, and those below them.
func (p *manText) commands(node *kong.Node) {
	for _, child := range node.Children {
		if child.Hidden || child.Type != kong.CommandNode {
			continue
		}
		p.line(".SS " + roff(commandLine(child)))
		p.prose(child.Help)
		if child.Detail != "" {
			p.prose(child.Detail)
		}
		for _, arg := range child.Positional {
			p.entry(arg.Name, flagHelp(arg))
		}
		p.flags(child)
		p.commands(child)
	}
}

// flags are those of the node itself.
func (p *manText) flags(node *kong.Node) {
	for _, f := range node.Flags {
		if f.Hidden || f.Name == "help" {
			continue
		}
		term := "--" + f.Name
		if f.Short != 0 {
			term = "-" + string(f.Short) + ", " + term
		}
		if !f.IsBool() {
			term += "=" + f.FormatPlaceHolder()
		}
		p.entry(term, flagHelp(f.Value))
	}
}

// commandLine is the command with the names of its arguments.
func commandLine(node *kong.Node) string {
	s := node.FullPath()
	for _, arg := range node.Positional {
		s += " " + arg.Summary()
	}
	return strings.ReplaceAll(s, "\n", " ")
}

// roff is text in which nothing means anything to man, in ASCII alone.
func roff(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case i == 0 && (r == '.' || r == '\''):
			b.WriteString(`\&` + string(r))
		case r > unicode.MaxASCII:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
