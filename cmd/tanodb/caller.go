package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/tanodb/tanodb/internal/certs"
)

// passwordVariable has the password of --user. No flag takes one: others on the machine
// see command lines.
const passwordVariable = "TANODB_PASSWORD"

// maxPassword is how many bytes of a password are read.
const maxPassword = 1024

// loginFlags are who asks, and whom to trust.
type loginFlags struct {
	CA           string `name:"ca" help:"Who has signed the certificates of nodes, PEM; none: those whom this machine trusts." placeholder:"FILE" env:"TANODB_CA"`
	Cert         string `help:"The certificate to show, PEM; its common name is the user." placeholder:"FILE" env:"TANODB_CERT"`
	Key          string `help:"The key of the certificate, PEM." placeholder:"FILE" env:"TANODB_KEY"`
	User         string `help:"The user who asks. The password is in TANODB_PASSWORD, or in the file of --password-file; at a terminal it is asked for." placeholder:"NAME" env:"TANODB_USER"`
	PasswordFile string `help:"A file with the password of the user." placeholder:"FILE" env:"TANODB_PASSWORD_FILE"`
}

// secure reports whether any was given: then an address without a scheme is of https.
func (f *loginFlags) secure() bool { return f.CA != "" || f.Cert != "" || f.User != "" }

// caller sends requests as somebody.
type caller struct {
	http           *http.Client
	tls            *tls.Config // nil: as http does it by itself
	user, password string

	ask func() (string, error) // for the password; nil: it is there
}

// plainCaller is nobody, and trusts whom the machine trusts.
var plainCaller = &caller{http: client}

// secret is the password.
func (c *caller) secret() (string, error) {
	if c.ask == nil {
		return c.password, nil
	}
	return c.ask()
}

// caller makes the caller of the flags. At a terminal, which may be nil, a password that is
// missing is asked for when there is something to ask a node for.
func (f *loginFlags) caller(at *terminal) (*caller, error) {
	if !f.secure() {
		return plainCaller, nil
	}
	conf, err := f.tls()
	if err != nil {
		return nil, err
	}
	c := &caller{user: f.User, tls: conf, http: newClient(conf)}
	if f.User == "" || f.Cert != "" && f.PasswordFile == "" {
		c.password = os.Getenv(passwordVariable)
		return c, nil
	}
	if f.PasswordFile == "" && os.Getenv(passwordVariable) == "" && at != nil {
		c.ask = at.asked(f.User)
		return c, nil
	}
	c.password, err = f.readPassword()
	return c, err
}

func (f *loginFlags) readPassword() (string, error) {
	if f.PasswordFile == "" {
		if p := os.Getenv(passwordVariable); p != "" {
			return p, nil
		}
		return "", usagef("--user needs a password: in %s, in the file of --password-file, or typed at a terminal", passwordVariable)
	}
	file, err := os.Open(f.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	defer file.Close()
	return passwordFrom(file)
}

// passwordFrom reads a password, which ends with the line.
func passwordFrom(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPassword+2))
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	p := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case p == "":
		return "", errors.New("the password is empty")
	case len(p) > maxPassword:
		return "", fmt.Errorf("the password is longer than %d bytes", maxPassword)
	}
	return p, nil
}

// secured is the caller's TLS towards a host.
func (c *caller) secured(host string) *tls.Config {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.tls != nil {
		conf = c.tls.Clone()
	}
	conf.ServerName = host
	return conf
}

// name is who the caller is: the user, or whom the certificate names; empty: nobody.
func (c *caller) name() string {
	if c.user != "" || c.tls == nil || len(c.tls.Certificates) == 0 {
		return c.user
	}
	return c.tls.Certificates[0].Leaf.Subject.CommonName
}

// unknown says what to look at if a server does not let the caller in. The server says
// nothing of it: somebody who guesses would learn from it.
func (c *caller) unknown() string {
	who := c.name()
	switch {
	case who == "":
		return "who asks has to log in there: give --user and --password-file, or --cert and --key"
	case c.user == "":
		return "there is no user " + who + ", or no source lets him in from here by a certificate"
	}
	return "there is no such user, the password is another, or no source lets " + who + " in from here"
}

// tls is what the flags say of it.
func (f *loginFlags) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if (f.Cert == "") != (f.Key == "") {
		return nil, usagef("--cert and --key are needed together")
	}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot read the authorities: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("there is no PEM certificate in %s", f.CA)
		}
		revoked, err := revokedBy(f.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot use the list of revoked certificates: %w", err)
		}
		conf.VerifyConnection = revoked.Check
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("cannot use the certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// explainTLS says what to do about a connection that could not be made secure; nil: that
// was not it.
func explainTLS(base string, err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%s shows a certificate of somebody who is not trusted (%w); give the cluster's authority with --ca", base, err)
	case errors.As(err, &host), errors.As(err, &invalid), errors.Is(err, certs.ErrRevoked):
		return fmt.Errorf("%s shows a certificate that is not good: %w", base, err)
	}
	return nil
}
