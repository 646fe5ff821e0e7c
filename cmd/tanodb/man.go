package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
)

type manCmd struct {
	Dir string `help:"Write a page for the program and one for each command into this directory, which must exist." placeholder:"DIR"`
}

// Help is the long part of the command's help.
func (*manCmd) Help() string {
	return `Without --dir the page of the program itself is printed. The pages are made from the same texts as --help.

Example:

    tanodb man | man -l -
    tanodb man --dir /usr/share/man/man1`
}

// Run prints a page, or writes all.
func (c *manCmd) Run(a *app, k *kong.Kong) error {
	if c.Dir == "" {
		_, err := io.WriteString(a.stdout, manPage(k.Model.Node))
		return err
	}
	for _, node := range manNodes(k.Model.Node) {
		name := strings.ReplaceAll(manName(node), " ", "-") + ".1"
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(manPage(node)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manNodes are the program and all its commands that are not hidden.
func manNodes(node *kong.Node) []*kong.Node {
	all := []*kong.Node{node}
	for _, child := range node.Children {
		if !child.Hidden && child.Type == kong.CommandNode {
			all = append(all, manNodes(child)...)
		}
	}
	return all
}

// manName is the program's name and those of the commands down to this one.
func manName(node *kong.Node) string {
	if node.Parent == nil {
		return node.Name
	}
	return manName(node.Parent) + " " + node.Name
}

// manSynopsis is how the command is written.
func manSynopsis(node *kong.Node) string {
	if node.Parent == nil {
		return node.Name + " <command> [flags]"
	}
	return "tanodb " + node.Summary()
}

// roff is text in which nothing is taken for a request or an escape of troff.
func roff(text string) string {
	text = strings.ReplaceAll(text, `\`, `\e`)
	text = strings.ReplaceAll(text, "-", `\-`)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// manPage is a page in the macros of man(7).
func manPage(node *kong.Node) string {
	var b strings.Builder
	name := manName(node)
	fmt.Fprintf(&b, ".TH %q 1 \"\" \"TanoDB\" \"User Commands\"\n", strings.ToUpper(strings.ReplaceAll(name, " ", "-")))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(strings.ReplaceAll(name, " ", "-")), roff(firstSentence(node.Help)))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(manSynopsis(node)))
	b.WriteString(".SH DESCRIPTION\n" + manText(node.Help))
	if node.Detail != "" {
		b.WriteString(".PP\n" + manText(node.Detail))
	}
	if len(node.Positional) > 0 {
		b.WriteString(".SH ARGUMENTS\n")
		for _, p := range node.Positional {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(p.Summary()), roff(p.Help))
		}
	}
	b.WriteString(".SH OPTIONS\n")
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(f.String()), roff(flagHelp(f.Value)))
		}
	}
	manChildren(&b, node)
	return b.String()
}

func manChildren(b *strings.Builder, node *kong.Node) {
	first := true
	for _, child := range node.Children {
		if child.Hidden || child.Type != kong.CommandNode {
			continue
		}
		if first {
			b.WriteString(".SH COMMANDS\n")
			first = false
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s See \\fB%s\\fR(1).\n", roff(child.Name), roff(child.Help), roff(strings.ReplaceAll(manName(child), " ", "-")))
	}
}

// manText is a help text: what is indented there is an example, and stands as it is.
func manText(text string) string {
	var b strings.Builder
	example := false
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		line = strings.TrimRight(line, "\n")
		indented := strings.HasPrefix(line, "    ")
		if indented != example && line != "" {
			example = indented
			b.WriteString(map[bool]string{true: ".PP\n.RS\n.nf\n", false: ".fi\n.RE\n.PP\n"}[example])
		}
		switch {
		case line == "" && !example:
			b.WriteString(".PP\n")
		default:
			b.WriteString(roff(strings.TrimPrefix(line, "    ")) + "\n")
		}
	}
	if example {
		b.WriteString(".fi\n.RE\n")
	}
	return b.String()
}

func firstSentence(text string) string {
	sentence, _, _ := strings.Cut(text, "\n")
	return strings.TrimSuffix(sentence, ".")
}
