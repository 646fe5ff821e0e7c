package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tanodb/tanodb/internal/config"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is the long part of the command's help.
func (*completionCmd) Help() string {
	return `Example, for each shell until it ends:

    source <(tanodb completion bash)
    source <(tanodb completion zsh)
    tanodb completion fish | source`
}

// completionScripts are the scripts of the shells. Each asks the program itself what may
// come next, so that they are the same for every version of it.
var completionScripts = map[string]string{
	"bash": `_tanodb() {
    local IFS=$'\n'
    COMPREPLY=($(tanodb complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _tanodb tanodb
`,
	"zsh": `#compdef tanodb
_tanodb() {
    local -a words_next
    words_next=("${(@f)$(tanodb complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$words_next" ]]; then
        compadd -a words_next
    else
        _files
    fi
}
compdef _tanodb tanodb
`,
	"fish": `function __tanodb_complete
    set -l before (commandline -opc) (commandline -ct)
    tanodb complete $before[2..-1] 2>/dev/null
end
complete -c tanodb -a '(__tanodb_complete)'
`,
}

// Run prints the script.
func (c *completionCmd) Run(a *app) error {
	_, err := io.WriteString(a.stdout, completionScripts[c.Shell])
	return err
}

// completeCmd is what the scripts call.
type completeCmd struct {
	Words []string `arg:"" optional:"" help:"The words so far; the last one may be the begin of one."`
}

// Run prints a candidate a line.
func (c *completeCmd) Run(a *app, k *kong.Kong) error {
	for _, word := range candidates(k.Model.Node, c.Words) {
		if _, err := fmt.Fprintln(a.stdout, word); err != nil {
			return err
		}
	}
	return nil
}

// candidates are the words that may take the place of the last one: commands,
// flags, or the values of a flag or argument that has a list of them.
func candidates(root *kong.Node, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	if words[0] == "help" && len(words) > 1 {
		words = words[1:] // it is of commands, and these are all
	}
	last := words[len(words)-1]
	node, flag := descend(root, words[:len(words)-1])
	var all []string
	switch {
	case flag != nil:
		all = wordsOf(flag)
	case strings.HasPrefix(last, "-"):
		all = flagNames(node)
	default:
		all = childNames(node)
		for _, arg := range node.Positional {
			all = append(all, arg.EnumSlice()...)
		}
	}
	var out []string
	for _, word := range all {
		if word != "" && strings.HasPrefix(word, last) {
			out = append(out, word)
		}
	}
	return out
}

// wordsOf are the only values of a flag; none: it takes others.
func wordsOf(flag *kong.Flag) []string {
	if _, ok := flag.Target.Addr().Interface().(*optionFlag); ok {
		o, _ := config.Lookup(flag.Name)
		return o.Words
	}
	return flag.EnumSlice()
}

// descend follows the words to the command that they name. Flag is not nil if
// the last word was a flag that waits for its value.
func descend(root *kong.Node, words []string) (node *kong.Node, flag *kong.Flag) {
	node = root
	for _, word := range words {
		if flag != nil {
			flag = nil // this word was its value
			continue
		}
		if strings.HasPrefix(word, "-") {
			if f := findFlag(node, word); f != nil && !f.IsBool() {
				flag = f
			}
			continue
		}
		if child := childOf(node, word); child != nil {
			node = child
		}
	}
	return node, flag
}

// findFlag is the flag of a command, or of one above it, that a word names; nil:
// none, or the word has the value in it.
func findFlag(node *kong.Node, word string) *kong.Flag {
	for ; node != nil; node = node.Parent {
		for _, f := range node.Flags {
			if word == "--"+f.Name || f.Short != 0 && word == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}

func flagNames(node *kong.Node) []string {
	var names []string
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			names = append(names, "--"+f.Name)
		}
	}
	return names
}

func childNames(node *kong.Node) []string {
	var names []string
	for _, child := range node.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			names = append(names, child.Name)
		}
	}
	return names
}
