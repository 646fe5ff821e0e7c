package main

import (
	"strings"

	"github.com/alecthomas/kong"
)

// helpCmd is for those who know other programs: tanodb help put is tanodb put --help.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command; none: tanodb itself."`
}

// Help is the long part of the command's help.
func (*helpCmd) Help() string {
	return `The same as --help after a command.

Example:

    tanodb help cluster leave`
}

// Run shows the help.
func (c *helpCmd) Run(a *app, k *kong.Kong) error {
	node := k.Model.Node
	for i, word := range c.Command {
		next := childOf(node, word)
		if next == nil {
			return usagef("there is no command %s: see %s --help", strings.Join(c.Command[:i+1], " "), node.FullPath())
		}
		node = next
	}
	run(append(c.Command, "--help"), a.stdin, a.stdout, a.stderr)
	return nil
}

// childOf is the command of this name below another; nil: there is none.
func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name && !child.Hidden {
			return child
		}
	}
	return nil
}

// versionFlag is tanodb --version, which others ask for before they know of the command.
type versionFlag bool

// BeforeReset prints the version, and ends the parsing as a help text does.
func (versionFlag) BeforeReset(k *kong.Kong) error {
	_, err := k.Stdout.Write([]byte(thisVersion().String()))
	k.Exit(exitDone)
	return err
}
