package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/tanodb/tanodb"
)

// securityPath is where the routes of security are.
const securityPath = ownPrefix + "/security"

type securityCmd struct {
	Status       securityStatusCmd  `cmd:"" help:"Show whether security is enabled."`
	Enable       securityEnableCmd  `cmd:"" help:"Let nobody in who does not say who he is."`
	Disable      securityDisableCmd `cmd:"" help:"Let everybody do everything."`
	AddUser      addUserCmd         `cmd:"" help:"Make a user."`
	AlterUser    alterUserCmd       `cmd:"" help:"Change a user's password or groups."`
	DelUser      delUserCmd         `cmd:"" help:"Remove a user, with all that names him."`
	AddGroup     addGroupCmd        `cmd:"" help:"Make a group of users and groups."`
	AlterGroup   alterGroupCmd      `cmd:"" help:"Change which groups a group is in."`
	DelGroup     delGroupCmd        `cmd:"" help:"Remove a group, with all that names it."`
	AddSource    addSourceCmd       `cmd:"" help:"Say how users prove who they are, from a range of addresses."`
	DelSource    delSourceCmd       `cmd:"" help:"Take that back."`
	Grant        grantCmd           `cmd:"" help:"Let users and groups do something."`
	Revoke       revokeCmd          `cmd:"" help:"Take that back."`
	PrintUsers   printUsersCmd      `cmd:"" help:"List users and groups."`
	PrintSources printSourcesCmd    `cmd:"" help:"List sources."`
	PrintGrants  printGrantsCmd     `cmd:"" help:"List grants."`
}

// Help is the long part of the command's help.
func (*securityCmd) Help() string {
	return `Passwords are read from a file or from standard input, or asked for at a terminal, and are never on a command line. A node must have certificates before security is enabled. docs/security.md goes through it.

Example:

    tanodb security add-user admin --password-from admin.pw
    tanodb security grant tanodb.admin,tanodb.read_admin on any to admin
    tanodb security add-source admin 0.0.0.0/0 password
    tanodb security enable
    export TANODB_USER=admin TANODB_PASSWORD_FILE=admin.pw
    tanodb security add-user shop --password-from shop.pw
    tanodb security add-source shop 10.0.0.0/8 password
    tanodb security grant riak_kv.get,riak_kv.put on default carts to shop`
}

// securityDone is what was done.
type securityDone struct {
	Done string `json:"done"`
}

// String is a line.
func (d securityDone) String() string { return d.Done + ": done\n" }

// changeSecurity changes who may do what.
func (a *app) changeSecurity(c tanodb.SecurityChange) error {
	var d securityDone
	if err := a.exchange(http.MethodPost, securityPath+"/change", c, &d); err != nil {
		return a.told(err)
	}
	return a.print(d)
}

func (a *app) security() (tanodb.SecurityState, error) {
	var s tanodb.SecurityState
	err := a.exchange(http.MethodGet, securityPath, nil, &s)
	return s, a.told(err)
}

type securityStatusCmd struct{}

// securityStatus is the whole of it, told in a line.
type securityStatus struct{ tanodb.SecurityState }

// String is a line.
func (s securityStatus) String() string {
	word := "disabled: everybody may do everything"
	if s.Enabled {
		word = "enabled"
	}
	return fmt.Sprintf("security is %s; %s, %s, %s, %s\n", word, plural(len(s.Users), "user"), plural(len(s.Groups), "group"), plural(len(s.Sources), "source"), plural(len(s.Grants), "grant"))
}

// Help is the long part of the command's help.
func (*securityStatusCmd) Help() string {
	return `Example:

    tanodb security status`
}

// Run shows it.
func (*securityStatusCmd) Run(a *app) error {
	s, err := a.security()
	if err != nil {
		return err
	}
	return a.print(securityStatus{s})
}

type securityEnableCmd struct{}

// Help is the long part of the command's help.
func (*securityEnableCmd) Help() string {
	return `It is refused if nobody could come in who may change it.

Example:

    tanodb security enable`
}

// Run enables security.
func (*securityEnableCmd) Run(a *app) error {
	return a.changeSecurity(tanodb.SecurityChange{Do: "enable"})
}

type securityDisableCmd struct{}

// Help is the long part of the command's help.
func (*securityDisableCmd) Help() string {
	return `Example:

    tanodb security disable`
}

// Run disables it.
func (*securityDisableCmd) Run(a *app) error {
	return a.changeSecurity(tanodb.SecurityChange{Do: "disable"})
}

// groupsFlag are the groups of a role.
type groupsFlag struct {
	Groups *string `help:"The groups that it is in, separated by commas; empty: none." placeholder:"GROUP,…"`
}

func (f groupsFlag) list() *[]string {
	if f.Groups == nil {
		return nil
	}
	list := []string{}
	if *f.Groups != "" {
		list = strings.Split(*f.Groups, ",")
	}
	return &list
}

// newPasswordFlag is where a new password is.
type newPasswordFlag struct {
	PasswordFrom string `help:"A file with the user's password; -: standard input, or typed twice at a terminal." placeholder:"FILE"`
}

// read gets the password of a user. At a terminal it is asked for, twice, where none is given
// and the user is new, and where standard input is meant.
func (f newPasswordFlag) read(a *app, name string, fresh bool) (string, error) {
	at := terminalOf(a.stdin, a.stderr)
	switch {
	case f.PasswordFrom == "" && fresh && at != nil:
		return at.newPassword("New password of " + name + " (none: just Enter)")
	case f.PasswordFrom == "":
		return "", nil
	case f.PasswordFrom == "-" && at != nil:
		p, err := at.newPassword("New password of " + name)
		if err == nil && p == "" {
			err = errors.New("the password is empty")
		}
		return p, err
	case f.PasswordFrom == "-":
		return passwordFrom(a.stdin)
	}
	file, err := os.Open(f.PasswordFrom)
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	defer file.Close()
	return passwordFrom(file)
}

type addUserCmd struct {
	Name string `arg:"" help:"The user's name."`
	newPasswordFlag
	groupsFlag
}

// Help is the long part of the command's help.
func (*addUserCmd) Help() string {
	return `A user without a password needs a certificate, or a source that trusts him. At a terminal the password is asked for, unless it comes from a file.

Example:

    tanodb security add-user shop --password-from shop.pw --groups shops
    tanodb security add-user alice`
}

// Run makes a user.
func (c *addUserCmd) Run(a *app) error {
	return a.setUser("add-user", c.Name, c.newPasswordFlag, c.groupsFlag)
}

type alterUserCmd struct {
	Name string `arg:"" help:"The user's name."`
	newPasswordFlag
	groupsFlag
}

// Help is the long part of the command's help.
func (*alterUserCmd) Help() string {
	return `Example:

    tanodb security alter-user shop --password-from -`
}

// Run changes a user.
func (c *alterUserCmd) Run(a *app) error {
	if c.PasswordFrom == "" && c.Groups == nil {
		return usagef("say what to change: --password-from or --groups")
	}
	return a.setUser("alter-user", c.Name, c.newPasswordFlag, c.groupsFlag)
}

func (a *app) setUser(do, name string, p newPasswordFlag, g groupsFlag) error {
	password, err := p.read(a, name, do == "add-user")
	if err != nil {
		return err
	}
	return a.changeSecurity(tanodb.SecurityChange{Do: do, Names: []string{name}, Password: password, Groups: g.list()})
}

type delUserCmd struct {
	Name string `arg:"" help:"The user's name."`
}

// Help is the long part of the command's help.
func (*delUserCmd) Help() string {
	return `Example:

    tanodb security del-user shop`
}

// Run removes a user.
func (c *delUserCmd) Run(a *app) error {
	return a.changeSecurity(tanodb.SecurityChange{Do: "del-user", Names: []string{c.Name}})
}

type addGroupCmd struct {
	Name string `arg:"" help:"The group's name."`
	groupsFlag
}

// Help is the long part of the command's help.
func (*addGroupCmd) Help() string {
	return `Example:

    tanodb security add-group shops --groups staff`
}

// Run makes a group.
func (c *addGroupCmd) Run(a *app) error {
	return a.changeSecurity(tanodb.SecurityChange{Do: "add-group", Names: []string{c.Name}, Groups: c.list()})
}

type alterGroupCmd struct {
	Name string `arg:"" help:"The group's name."`
	groupsFlag
}

// Help is the long part of the command's help.
func (*alterGroupCmd) Help() string {
	return `Example:

    tanodb security alter-group shops --groups staff,readers`
}

// Run changes a group.
func (c *alterGroupCmd) Run(a *app) error {
	if c.Groups == nil {
		return usagef("say what to change: --groups")
	}
	return a.changeSecurity(tanodb.SecurityChange{Do: "alter-group", Names: []string{c.Name}, Groups: c.list()})
}

type delGroupCmd struct {
	Name string `arg:"" help:"The group's name."`
}

// Help is the long part of the command's help.
func (*delGroupCmd) Help() string {
	return `Example:

    tanodb security del-group shops`
}

// Run removes a group.
func (c *delGroupCmd) Run(a *app) error {
	return a.changeSecurity(tanodb.SecurityChange{Do: "del-group", Names: []string{c.Name}})
}

type addSourceCmd struct {
	Users  string `arg:"" help:"Users, separated by commas, or all."`
	CIDR   string `arg:"" name:"cidr" help:"The range of addresses, such as 10.0.0.0/8."`
	Method string `arg:"" help:"trust, password or certificate."`
}

// Help is the long part of the command's help.
func (*addSourceCmd) Help() string {
	return `Of those that match the narrowest counts, and of two that are as narrow that of the user.

Example:

    tanodb security add-source all 10.0.0.0/8 password
    tanodb security add-source alice 10.1.0.0/16 certificate`
}

// Run adds a source.
func (c *addSourceCmd) Run(a *app) error {
	at, err := readCIDR(c.CIDR)
	if err != nil {
		return err
	}
	return a.changeSecurity(tanodb.SecurityChange{Do: "add-source", Names: strings.Split(c.Users, ","), CIDR: at, Method: c.Method})
}

type delSourceCmd struct {
	Users string `arg:"" help:"Users, separated by commas, or all."`
	CIDR  string `arg:"" name:"cidr" help:"The range of addresses."`
}

// Help is the long part of the command's help.
func (*delSourceCmd) Help() string {
	return `Example:

    tanodb security del-source all 10.0.0.0/8`
}

// Run takes a source away.
func (c *delSourceCmd) Run(a *app) error {
	at, err := readCIDR(c.CIDR)
	if err != nil {
		return err
	}
	return a.changeSecurity(tanodb.SecurityChange{Do: "del-source", Names: strings.Split(c.Users, ","), CIDR: at})
}

// readCIDR reads a range; what is past its length must be zero.
func readCIDR(text string) (netip.Prefix, error) {
	at, err := netip.ParsePrefix(text)
	if err != nil {
		return at, usagef("%q is no range of addresses, such as 10.0.0.0/8", text)
	}
	if at != at.Masked() {
		return at, usagef("%s has bits past its length; is it %v that is meant?", text, at.Masked())
	}
	return at, nil
}

type grantCmd struct {
	Words []string `arg:"" name:"words" help:"PERMISSION,… on any|TYPE [BUCKET] to NAME,…"`
}

// Help is the long part of the command's help.
func (*grantCmd) Help() string {
	var all []string
	for _, p := range tanodb.Permissions() {
		all = append(all, string(p))
	}
	return `Example:

    tanodb security grant riak_kv.get,riak_kv.put on default carts to shop
    tanodb security grant riak_kv.get on any to all

The permissions: ` + strings.Join(all, ", ") + "."
}

// Run grants.
func (c *grantCmd) Run(a *app) error { return a.changeGrants("grant", "to", c.Words) }

type revokeCmd struct {
	Words []string `arg:"" name:"words" help:"PERMISSION,… on any|TYPE [BUCKET] from NAME,…"`
}

// Help is the long part of the command's help.
func (*revokeCmd) Help() string {
	return `Example:

    tanodb security revoke riak_kv.put on default carts from shop`
}

// Run revokes.
func (c *revokeCmd) Run(a *app) error { return a.changeGrants("revoke", "from", c.Words) }

func (a *app) changeGrants(do, preposition string, words []string) error {
	c, err := readGrant(do, preposition, words)
	if err != nil {
		return err
	}
	return a.changeSecurity(c)
}

// readGrant reads PERMISSIONS on any|TYPE [BUCKET] to NAMES.
func readGrant(do, preposition string, words []string) (tanodb.SecurityChange, error) {
	c := tanodb.SecurityChange{Do: do}
	n := len(words)
	if n != 5 && n != 6 || words[1] != "on" || words[n-2] != preposition {
		return c, usagef("it must be: %s PERMISSION,… on any|TYPE [BUCKET] %s NAME,…", do, preposition)
	}
	for _, p := range strings.Split(words[0], ",") {
		c.Permissions = append(c.Permissions, tanodb.Permission(p))
	}
	c.Names = strings.Split(words[n-1], ",")
	switch {
	case words[2] == "any" && n == 5:
		c.Any = true
	case words[2] == "any":
		return c, usagef("any has no buckets")
	case n == 6:
		c.Type, c.Bucket = words[2], []byte(words[3])
	default:
		c.Type = words[2]
	}
	return c, nil
}

type printUsersCmd struct{}

// roleList are users and groups.
type roleList struct {
	Users  []tanodb.Role `json:"users"`
	Groups []tanodb.Role `json:"groups"`
}

// String is a line for each.
func (l roleList) String() string {
	t := newTable("NAME", "KIND", "PASSWORD", "GROUPS")
	for _, r := range l.Users {
		has := "no"
		if r.Password {
			has = "yes"
		}
		t.row(r.Name, "user", has, strings.Join(r.Groups, ","))
	}
	for _, r := range l.Groups {
		t.row(r.Name, "group", "-", strings.Join(r.Groups, ","))
	}
	return t.String()
}

// Help is the long part of the command's help.
func (*printUsersCmd) Help() string {
	return `Example:

    tanodb security print-users`
}

// Run lists users and groups.
func (*printUsersCmd) Run(a *app) error {
	s, err := a.security()
	if err != nil {
		return err
	}
	return a.print(roleList{s.Users, s.Groups})
}

type printSourcesCmd struct{}

// sourceList prints as a table.
type sourceList []tanodb.Source

// String is a line for each, the first that matches counts.
func (l sourceList) String() string {
	t := newTable("USER", "RANGE", "METHOD")
	for _, s := range l {
		t.row(s.User, s.CIDR.String(), s.Method)
	}
	return t.String()
}

// Help is the long part of the command's help.
func (*printSourcesCmd) Help() string {
	return `Example:

    tanodb security print-sources`
}

// Run lists sources.
func (*printSourcesCmd) Run(a *app) error {
	s, err := a.security()
	if err != nil {
		return err
	}
	return a.print(sourceList(s.Sources))
}

type printGrantsCmd struct{}

// grantList prints as a table.
type grantList []tanodb.Grant

// String is a line for each.
func (l grantList) String() string {
	t := newTable("NAME", "PERMISSION", "ON")
	for _, g := range l {
		on := "any"
		if !g.Any {
			on = showText(g.Type)
		}
		if len(g.Bucket) > 0 {
			on += " " + showText(string(g.Bucket))
		}
		t.row(g.Role, string(g.Permission), on)
	}
	return t.String()
}

// Help is the long part of the command's help.
func (*printGrantsCmd) Help() string {
	return `Example:

    tanodb security print-grants`
}

// Run lists grants.
func (*printGrantsCmd) Run(a *app) error {
	s, err := a.security()
	if err != nil {
		return err
	}
	return a.print(grantList(s.Grants))
}
