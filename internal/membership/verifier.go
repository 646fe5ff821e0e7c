package membership

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A password is kept as a verifier of SCRAM-SHA-256 (RFC 5802, 7677), from which it
// cannot be read, and which proves nothing to a node that is asked for the password:
//
//	SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey
//
//	SaltedPassword = PBKDF2(HMAC-SHA-256, password, salt, iterations)
//	StoredKey      = SHA-256(HMAC(SaltedPassword, "Client Key"))
//	ServerKey      = HMAC(SaltedPassword, "Server Key")

// The limits of a verifier.
const (
	PasswordIterations = 600_000 // of a new one: about a quarter of a second of a core
	PasswordSalt       = 16      // bytes
	maxIterations      = 10_000_000
	scheme             = "SCRAM-SHA-256"
)

var errVerifier = errors.New("it is no verifier of SCRAM-SHA-256")

// MakeVerifier makes the verifier of a password. Salt is of chance.
func MakeVerifier(password string, salt []byte, iterations int) (string, error) {
	stored, server, err := scram(password, salt, iterations)
	if err != nil {
		return "", err
	}
	b := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", scheme, iterations, b(salt), b(stored), b(server)), nil
}

func scram(password string, salt []byte, iterations int) (stored, server []byte, err error) {
	if strings.Contains(password, "\x00") {
		return nil, nil, errors.New("a password has no zero bytes") // HMAC fills up with them
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	sum := sha256.Sum256(mac("Client Key"))
	return sum[:], mac("Server Key"), nil
}

// Verify reports whether the password is that of the verifier. It takes the same time
// whether it is or not, for all that can be passwords.
func Verify(verifier, password string) bool {
	iterations, salt, stored, err := parseVerifier(verifier)
	if err != nil {
		return false
	}
	got, _, err := scram(password, salt, iterations)
	return err == nil && subtle.ConstantTimeCompare(got, stored) == 1
}

func checkVerifier(v string) error {
	_, _, _, err := parseVerifier(v)
	return err
}

func parseVerifier(v string) (iterations int, salt, stored []byte, err error) {
	parts := strings.Split(v, "$")
	if len(v) > maxVerifier || len(parts) != 3 || parts[0] != scheme {
		return 0, nil, nil, errVerifier
	}
	count, salt64, ok1 := strings.Cut(parts[1], ":")
	stored64, server64, ok2 := strings.Cut(parts[2], ":")
	iterations, err1 := strconv.Atoi(count)
	salt, err2 := base64.StdEncoding.DecodeString(salt64)
	stored, err3 := base64.StdEncoding.DecodeString(stored64)
	server, err4 := base64.StdEncoding.DecodeString(server64)
	good := ok1 && ok2 && errors.Join(err1, err2, err3, err4) == nil && iterations > 0 && iterations <= maxIterations &&
		len(salt) >= 8 && len(stored) == sha256.Size && len(server) == sha256.Size
	if !good {
		return 0, nil, nil, errVerifier
	}
	return iterations, salt, stored, nil
}

// VerifierOfNobody costs as much to check as a new one, and no password is that of it.
func VerifierOfNobody(salt []byte, iterations int) string {
	b := base64.StdEncoding.EncodeToString
	none := make([]byte, sha256.Size)
	return fmt.Sprintf("%s$%d:%s$%s:%s", scheme, iterations, b(salt), b(none), b(none))
}
