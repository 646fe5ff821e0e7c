package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/certs"
	"github.com/tanodb/tanodb/internal/config"
)

// issuedFile has all certificates that an authority has signed, in its directory: a list of
// revoked ones goes by their numbers, which nobody remembers.
const issuedFile = "ca.issued"

type certRevokeCmd struct {
	Name  string `arg:"" optional:"" help:"The node or user whose certificates are revoked, all that were made until now."`
	File  string `help:"A certificate that is revoked, in place of a name: for one that was made before the authority kept a list." placeholder:"FILE"`
	CADir string `name:"ca-dir" help:"Where the authority is." placeholder:"DIR" default:"ca"`
}

// Help is the long part of the command's help.
func (*certRevokeCmd) Help() string {
	return `It writes ca.crl beside the authority. Copy that to the --tls-dir of every node (with --tls-ca or --client-tls-ca: beside that file, with the ending .crl): they follow its changes, refuse who shows such a certificate, and end the connections that it has. A certificate that is made for the same name afterwards is good.

Example:

    tanodb cert revoke alice --ca-dir ca
    scp ca/ca.crl n1:n1-tls/`
}

// revocation is what was revoked.
type revocation struct {
	Path    string       `json:"path"` // of the list
	Revoked []certs.Info `json:"revoked"`
}

// String is a line for each, and what to do.
func (r revocation) String() string {
	var b strings.Builder
	for _, i := range r.Revoked {
		fmt.Fprintf(&b, "revoked: %s %s, until %s\n", i.Kind, i.Name, i.Ends.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "copy %s to the --tls-dir of every node\n", r.Path)
	return b.String()
}

// Run writes the list anew.
func (c *certRevokeCmd) Run(a *app) error {
	if (c.Name == "") == (c.File == "") {
		return usagef("give the name whose certificates are revoked, or one of them with --file")
	}
	ca, err := readAuthority(c.CADir)
	if err != nil {
		return err
	}
	all, err := c.meant()
	if err != nil {
		return err
	}
	path := filepath.Join(c.CADir, certs.RevokedFile(config.CAFile))
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := ca.Revoke(old, all, time.Now())
	if err != nil {
		return fmt.Errorf("cannot revoke: %w", err)
	}
	if err := writeWhole(path, text, publicMode); err != nil {
		return err
	}
	out := revocation{Path: path}
	for _, x := range all {
		out.Revoked = append(out.Revoked, certs.Describe(path, x, time.Now()))
	}
	return a.print(out)
}

// meant are the certificates to revoke.
func (c *certRevokeCmd) meant() ([]*x509.Certificate, error) {
	path := c.File
	if path == "" {
		path = filepath.Join(c.CADir, issuedFile)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && c.File == "" {
		return nil, fmt.Errorf("%s is not there: no certificate was made by this version; name a certificate with --file", path)
	}
	if err != nil {
		return nil, err
	}
	all, err := certs.ParseAll(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if c.File != "" {
		return all[:1], nil // what follows may be its authority
	}
	all = slices.DeleteFunc(all, func(x *x509.Certificate) bool { return x.Subject.CommonName != c.Name })
	if len(all) == 0 {
		return nil, fmt.Errorf("no certificate for %q is in %s; name one with --file if it was made before that was kept", c.Name, path)
	}
	return all, nil
}

// issue notes what the authority of a directory has signed, before anybody gets it.
func issue(dir string, made certs.Pair) error {
	f, err := os.OpenFile(filepath.Join(dir, issuedFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, publicMode)
	if err != nil {
		return fmt.Errorf("cannot note what is signed: %w", err)
	}
	block, _ := pem.Decode(made.Cert)
	_, err = f.Write(pem.EncodeToMemory(block)) // at once, so that two at a time do not mix
	return errors.Join(err, f.Sync(), f.Close())
}

// revokedIn is what the list beside a certificate says, if there is one: in a directory of
// the authority or of a node.
func revokedIn(file string) (*certs.Revoked, error) {
	return revokedBy(filepath.Join(filepath.Dir(file), config.CAFile))
}

// revokedBy is what the list beside a file of authorities says; nil: there is none.
func revokedBy(ca string) (*certs.Revoked, error) {
	text, err := os.ReadFile(certs.RevokedFile(ca))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	by, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	all, err := certs.ParseAll(by)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ca, err)
	}
	r, err := certs.ParseRevoked(text, all)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certs.RevokedFile(ca), err)
	}
	return r, nil
}
