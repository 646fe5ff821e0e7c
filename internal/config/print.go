package config

import (
	"fmt"
	"strconv"
	"strings"
)

// literal is a value in TOML.
func literal(field any) string {
	switch p := field.(type) {
	case *bool, *int:
		return format(p)
	case *[]string:
		parts := make([]string, len(*p))
		for i, s := range *p {
			parts[i] = quote(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return quote(format(field))
}

// quote is a text in TOML's quotes.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// literalDefault is the option's default in TOML.
func (o *Option) literalDefault() string {
	var s Server
	_ = o.parse(o.field(&s), o.Default)
	return literal(o.field(&s))
}

// example is a value in TOML that is not empty.
func (o *Option) example() string {
	if o.IsList() {
		return `["` + strings.TrimSuffix(o.Sign, ",…") + `"]`
	}
	return o.literalDefault()
}

// Init is a file with all options, each as a comment with its default.
func Init() string {
	var b strings.Builder
	b.WriteString(`# The configuration of a TanoDB node: tanodb serve --config FILE.
#
# Every option stands here as a comment with its default. Flags beat the environment,
# the environment beats this file. Check it with: tanodb config check FILE
`)
	group := ""
	for _, o := range Options {
		if o.Group != group {
			group = o.Group
			fmt.Fprintf(&b, "\n# ---- %s ----\n", group)
		}
		b.WriteByte('\n')
		text := o.sentences()
		if o.Live {
			text += " Live: tanodb set changes it while the node runs."
		}
		for _, line := range wrap(text, 88) {
			b.WriteString("# " + line + "\n")
		}
		fmt.Fprintf(&b, "#%s = %s\n", o.Name, o.literalDefault())
	}
	return b.String()
}

// sentences are what there is to say of an option: its help, and its range.
func (o *Option) sentences() string {
	r := o.Range()
	switch {
	case r == "":
		return o.Help
	case len(o.Words) > 0:
		return o.Help + " One of " + r + "."
	}
	return o.Help + " " + strings.ToUpper(r[:1]) + r[1:] + "."
}

// FlagHelp is the help of the option's flag.
func (o *Option) FlagHelp() string {
	s := o.sentences()
	if o.Default != "" {
		s += " Default: " + o.Default + "."
	}
	return s + " Environment: " + o.Env() + "."
}

// wrap breaks a text into lines of so many bytes at most, where there are blanks.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// Reference is docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

This page is made from the table of options in ` + "`internal/config/table.go`" + `, and a test holds it to that.

An option has one name. It is a flag of ` + "`tanodb serve`" + `, a variable of the environment, and a key of the file:

` + "```" + `
tanodb serve --repair-every 10m
TANODB_REPAIR_EVERY=10m tanodb serve
tanodb serve --config tanodb.toml        # repair-every = "10m"
` + "```" + `

Flags beat the environment, the environment beats the file, and the file beats the default. No file is looked for: it is
that of ` + "`--config`" + `, or of ` + "`TANODB_CONFIG`" + `. It is TOML without tables. A variable that is empty counts as not
given. What is wrong is wrong wherever it stands, and all of it is reported at once; a key that is unknown is an error, and a
variable that is nearly one of these is warned of.

` + "```" + `
tanodb config init > tanodb.toml         # all options as comments, with their defaults
tanodb config check tanodb.toml          # what is wrong with it, by line and column
tanodb config print --config tanodb.toml # what serve would go by, and where each value comes from
tanodb config print --node 10.0.0.1:8098 # what a running node goes by
tanodb set log-level debug --node 10.0.0.1:8098
` + "```" + `

` + "`tanodb set`" + ` changes an option that is *live* while the node runs. It is gone with the next restart: to keep it, write
it into the file as well. Any other option needs a restart.

*Sizes* are whole numbers of bytes, or have a unit: ` + "`64KiB`, `10MB`" + `; in the file a size with a unit stands in quotes.
Rates are sizes a second. *Durations* always have a unit: ` + "`500ms`, `10s`, `1h30m`" + `. *Lists* are ` + "`[\"a\", \"b\"]`" + ` in the
file, and have commas between them in a flag or variable.
`)
	group := ""
	for i := range Options {
		o := &Options[i]
		if o.Group != group {
			group = o.Group
			fmt.Fprintf(&b, "\n## %s\n\n| option | kind | default | range | live | |\n| --- | --- | --- | --- | --- | --- |\n", group)
		}
		live := ""
		if o.Live {
			live = "yes"
		}
		def := ""
		if o.Default != "" {
			def = "`" + o.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", o.Name, o.kind(), def, o.Range(), live, strings.ReplaceAll(o.Help, "|", `\|`))
	}
	b.WriteString("\n" + strconv.Itoa(len(Options)) + " options.\n")
	return b.String()
}
