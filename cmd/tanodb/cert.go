package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/certs"
	"github.com/tanodb/tanodb/internal/config"
	"github.com/tanodb/tanodb/internal/membership"
)

// The files of a user's certificate.
const (
	clientFile    = "client.crt"
	clientKeyFile = "client.key"
)

// The modes of what is written.
const (
	secretMode = 0o600
	publicMode = 0o644
	dirMode    = 0o700
)

// maxLife is how many days a certificate may be valid.
const maxLife = 36500

type certCmd struct {
	Init   certInitCmd   `cmd:"" help:"Make the private authority of a cluster."`
	Node   certNodeCmd   `cmd:"" help:"Make the certificate of a node."`
	Client certClientCmd `cmd:"" help:"Make the certificate of a user."`
	Revoke certRevokeCmd `cmd:"" help:"Make certificates useless before they expire."`
	Show   certShowCmd   `cmd:"" help:"Show certificates, and when they expire."`
}

// Help is the long part of the command's help.
func (*certCmd) Help() string {
	return `The authority stays where the certificates are made: no node needs its key. A node gets the directory that "cert node" makes, and is started with --tls-dir. To renew a certificate, make it again with --replace and copy it to the node, which uses it without a restart.

Example:

    tanodb cert init --ca-dir ca
    tanodb cert node n1 --host 10.0.0.1 --ca-dir ca --out n1-tls
    tanodb cert client alice --ca-dir ca --out alice-tls
    tanodb cert show n1-tls
    tanodb cert revoke alice --ca-dir ca
    tanodb serve --name n1 --tls-dir n1-tls --http 10.0.0.1:8098 --pb 10.0.0.1:8087 --listen 10.0.0.1:7098`
}

type certInitCmd struct {
	CADir string `name:"ca-dir" help:"Where the authority is to be." placeholder:"DIR" default:"ca"`
	Name  string `help:"The authority's name." placeholder:"NAME" default:"TanoDB"`
	Days  int    `help:"How long it is valid." placeholder:"N" default:"3650"`
}

// Help is the long part of the command's help.
func (*certInitCmd) Help() string {
	return `It writes ca.crt, which everybody may have, and ca.key, with which anybody can be a node.

Example:

    tanodb cert init --ca-dir ca`
}

// Run makes the authority. One that is there is never replaced.
func (c *certInitCmd) Run(a *app) error {
	life, err := lifeOf(c.Days)
	if err != nil {
		return err
	}
	ca, err := certs.NewAuthority(c.Name, time.Now(), life)
	if err != nil {
		return usagef("%v", err)
	}
	pair, err := ca.Pair()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.CADir, dirMode); err != nil {
		return err
	}
	w := certWriter{dir: c.CADir}
	w.add(config.CAKeyFile, pair.Key, secretMode)
	w.add(config.CAFile, pair.Cert, publicMode)
	if err := w.write(); err != nil {
		return err
	}
	return a.showCerts(filepath.Join(c.CADir, config.CAFile))
}

// madeFlags are those of all that an authority signs.
type madeFlags struct {
	CADir   string `name:"ca-dir" help:"Where the authority is." placeholder:"DIR" default:"ca"`
	Out     string `help:"The directory to write to; none: its name." placeholder:"DIR"`
	Days    int    `help:"How long it is valid." placeholder:"N" default:"365"`
	Replace bool   `help:"Replace the certificate that is there."`
}

type certNodeCmd struct {
	Name string   `arg:"" help:"The node's name."`
	Host []string `required:"" help:"A name or an address at which other nodes and clients reach it; several, separated by commas." placeholder:"HOST"`
	madeFlags
}

// Help is the long part of the command's help.
func (*certNodeCmd) Help() string {
	return `The directory is what the node gets as --tls-dir.

Example:

    tanodb cert node n1 --host 10.0.0.1,n1.example --ca-dir ca --out n1-tls
    tanodb cert node n1 --host 10.0.0.1,n1.example --ca-dir ca --out n1-tls --replace`
}

// Run makes a node's certificate.
func (c *certNodeCmd) Run(a *app) error {
	if err := membership.CheckName(c.Name); err != nil {
		return usagef("%q: %v", c.Name, err) // no node could have it
	}
	return c.make(a, c.Name, config.NodeFile, config.NodeKeyFile, func(ca *certs.Authority, life time.Duration) (certs.Pair, error) {
		return ca.Node(c.Name, c.Host, time.Now(), life)
	})
}

type certClientCmd struct {
	User string `arg:"" help:"The user's name, which becomes the common name."`
	madeFlags
}

// Help is the long part of the command's help.
func (*certClientCmd) Help() string {
	return `Example:

    tanodb cert client alice --ca-dir ca --out alice-tls`
}

// Run makes a user's certificate.
func (c *certClientCmd) Run(a *app) error {
	return c.make(a, c.User, clientFile, clientKeyFile, func(ca *certs.Authority, life time.Duration) (certs.Pair, error) {
		return ca.Client(c.User, time.Now(), life)
	})
}

// make has something signed, and writes it with the authority's certificate beside it.
func (c *madeFlags) make(a *app, name, certFile, keyFile string, sign func(*certs.Authority, time.Duration) (certs.Pair, error)) error {
	life, err := lifeOf(c.Days)
	if err != nil {
		return err
	}
	ca, err := readAuthority(c.CADir)
	if err != nil {
		return err
	}
	pair, err := sign(ca, life)
	if err != nil {
		return usagef("%v", err)
	}
	authority, err := ca.Pair()
	if err != nil {
		return err
	}
	dir := c.Out
	if dir == "" {
		if dir = name; dir != filepath.Base(dir) || dir == "." || dir == ".." {
			return usagef("%q cannot be the name of a directory; give one with --out", name)
		}
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	w := certWriter{dir: dir, replace: c.Replace}
	w.add(keyFile, pair.Key, secretMode)
	w.add(certFile, pair.Cert, publicMode)
	if _, err := os.Stat(filepath.Join(dir, config.CAFile)); errors.Is(err, fs.ErrNotExist) {
		w.add(config.CAFile, authority.Cert, publicMode) // one that is there may hold two
	}
	if err := w.check(); err != nil {
		return fmt.Errorf("%w; to make it anew, say --replace", err)
	}
	if err := issue(c.CADir, pair); err != nil {
		return err
	}
	if err := w.write(); err != nil {
		return err
	}
	return a.showCerts(filepath.Join(dir, certFile))
}

func lifeOf(days int) (time.Duration, error) {
	if days < 1 || days > maxLife {
		return 0, usagef("--days is %d; it must be from 1 to %d", days, maxLife)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// readAuthority reads the authority of a directory, whose key must be its owner's alone.
func readAuthority(dir string) (*certs.Authority, error) {
	path := filepath.Join(dir, config.CAKeyFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("there is no authority in %s: %w; make one with: tanodb cert init", dir, err)
	}
	if others := info.Mode().Perm() & 0o077; others != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("others may read %s, with which anybody can be a node: chmod 600 it, and make another authority if somebody has", path)
	}
	var p certs.Pair
	if p.Key, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	if p.Cert, err = os.ReadFile(filepath.Join(dir, config.CAFile)); err != nil {
		return nil, err
	}
	ca, err := certs.ParseAuthority(p)
	if err != nil {
		return nil, fmt.Errorf("cannot use the authority in %s: %w", dir, err)
	}
	return ca, nil
}

// certWriter writes files that belong together.
type certWriter struct {
	dir     string
	replace bool
	files   []certFile
}

type certFile struct {
	name string
	data []byte
	mode fs.FileMode
}

func (w *certWriter) add(name string, data []byte, mode fs.FileMode) {
	w.files = append(w.files, certFile{name, data, mode})
}

// check refuses to write if a file is there that is not to be replaced.
func (w *certWriter) check() error {
	if w.replace {
		return nil
	}
	for _, f := range w.files {
		path := filepath.Join(w.dir, f.name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already", path)
		}
	}
	return nil
}

// write writes them all, or none. Each is whole at any time, and no other than its owner
// could ever read a secret one.
func (w *certWriter) write() error {
	if err := w.check(); err != nil {
		return err
	}
	for _, f := range w.files {
		if err := writeWhole(filepath.Join(w.dir, f.name), f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// writeWhole replaces a file at once.
func writeWhole(path string, data []byte, mode fs.FileMode) error {
	t, err := os.CreateTemp(filepath.Dir(path), ".new-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	err = errors.Join(err, t.Chmod(mode), t.Sync(), t.Close())
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(t.Name()))
	}
	return nil
}

type certShowCmd struct {
	Path []string `arg:"" help:"Certificates, or directories of them."`
}

// Help is the long part of the command's help.
func (*certShowCmd) Help() string {
	return `Example:

    tanodb cert show n1-tls
    tanodb cert show ca/ca.crt --json`
}

// Run shows certificates.
func (c *certShowCmd) Run(a *app) error { return a.showCerts(c.Path...) }

// certList is what is shown.
type certList struct {
	Certificates []certs.Info `json:"certificates"`
}

// String is a line or two for each.
func (l certList) String() string {
	var b strings.Builder
	for _, i := range l.Certificates {
		b.WriteString(i.String() + "\n")
	}
	return b.String()
}

// showCerts prints the certificates of files, and of all files *.crt and *.pem of
// directories.
func (a *app) showCerts(paths ...string) error {
	var l certList
	for _, path := range paths {
		files, err := certsIn(path)
		if err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			all, err := certs.ParseAll(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			revoked, err := revokedIn(file)
			if err != nil {
				return err
			}
			for _, x := range all {
				i := certs.Describe(file, x, time.Now())
				i.Mark(x, revoked)
				l.Certificates = append(l.Certificates, i)
			}
		}
	}
	return a.print(l)
}

// certsIn are the files of certificates that a path means.
func certsIn(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	var files []string
	for _, pattern := range []string{"*.crt", "*.pem"} {
		found, err := filepath.Glob(filepath.Join(path, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no certificate in %s", path)
	}
	return files, nil
}
