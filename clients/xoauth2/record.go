package xoauth2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// AuthenticationRecord says who has signed in, and where: for a program on its user's
// machine, a later process of which signs the user in with it ([Client.SignInSilently])
// without asking for anything. It holds no secret, but personal data. The zero value is
// nobody's.
//
// It is that of Microsoft's azidentity (Go), with the same members in the same order, so
// that azidentity.AuthenticationRecord(r) converts it; and that of Azure.Identity
// (Python) as JSON:
//
//	{"authority":"https://login.microsoftonline.com","clientId":"…","homeAccountId":"uid.utid","tenantId":"…","username":"…","version":"1.0"}
//
// Write it with [AuthenticationRecord.Encode] and read it with
// [ParseAuthenticationRecord], or with encoding/json, which always writes as azidentity
// does. String, LogValue and Format tell nothing of it; its JSON and its fields are not
// for logs.
type AuthenticationRecord struct {
	// Authority is the scheme and host of the issuer, such as
	// https://login.microsoftonline.com; in a record of Azure.Identity (Python) the host
	// alone.
	Authority string `json:"authority"`
	// ClientID is the application that the user has signed in to.
	ClientID string `json:"clientId"`
	// HomeAccountID is [tokencache.Account].ID.
	HomeAccountID string `json:"homeAccountId"`
	// TenantID is the tenant that the user has signed in to. Where the server names
	// none, it is the path of the issuer without the slashes around it.
	TenantID string `json:"tenantId"`
	// Username is what to show the user: preferred_username, or "" if it is not known.
	Username string `json:"username"`
	// Version is that of the format, "1.0".
	Version string `json:"version"`
}

// ErrRecord means that an [AuthenticationRecord] cannot be worked with: it is not one, or
// it is of another authorization server, tenant or client. The text names which, and
// nothing that is in it. Nothing is wrong with the account: sign in again, and replace
// the record.
var ErrRecord = errors.New("xoauth2: the authentication record cannot be used")

const (
	recordVersion = "1.0"    // the only one there is
	maxRecord     = 16 << 10 // bytes; there are some 300
)

func badRecord(text string) error { return fmt.Errorf("%w: %s", ErrRecord, text) }

// members are the fields by the names that they have in JSON.
func (r *AuthenticationRecord) members() map[string]*string {
	return map[string]*string{
		"authority": &r.Authority, "clientId": &r.ClientID, "homeAccountId": &r.HomeAccountID,
		"tenantId": &r.TenantID, "username": &r.Username, "version": &r.Version,
	}
}

// ParseAuthenticationRecord reads a record as Azure.Identity for Go and Python write
// them: a JSON object of at most 16 KiB that has the six members of version 1.0, each once
// and of printable text, and no others. (That of .NET has no version. It is refused here
// as it is by them.) The error is [ErrRecord].
func ParseAuthenticationRecord(text []byte) (AuthenticationRecord, error) {
	var r AuthenticationRecord
	if err := r.parse(text); err != nil {
		return AuthenticationRecord{}, err
	}
	if err := r.check(); err != nil {
		return AuthenticationRecord{}, err
	}
	return r, nil
}

// parse reads one token after the other: encoding/json would take the last of two
// members of one name, whatever its case, and repeats in its errors what it reads.
func (r *AuthenticationRecord) parse(text []byte) error {
	switch {
	case len(text) > maxRecord:
		return badRecord("it has more than 16 KiB")
	case !utf8.Valid(text): // which encoding/json replaces
		return badRecord("it is not UTF-8")
	case !json.Valid(text): // so that there is one value, and no token fails below
		return badRecord("it is not valid JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, _ := d.Token(); t != json.Delim('{') {
		return badRecord("it is not a JSON object")
	}
	left := r.members()
	for d.More() {
		name, _ := d.Token()
		key, _ := name.(string)
		member := left[key]
		if member == nil {
			return badRecord("a member is unknown, or comes twice")
		}
		delete(left, key)
		value, _ := d.Token()
		var ok bool
		if *member, ok = value.(string); !ok {
			return badRecord("the member " + key + " is not text")
		}
	}
	if len(left) > 0 {
		return badRecord("a member is missing")
	}
	return nil
}

// unshowable is what does not belong into names of people either: they may have spaces of
// any kind in them, and the two joiners that some scripts are written with.
func unshowable(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return unprintable(r) && !unicode.Is(unicode.Zs, r) && r != nonJoiner && r != joiner
}

// check refuses what may be a record in form only.
func (r *AuthenticationRecord) check() error {
	if r.Version != recordVersion {
		return badRecord("its version is not " + recordVersion)
	}
	for name, value := range r.members() {
		if strings.ContainsFunc(*value, unshowable) || strings.ContainsRune(*value, utf8.RuneError) {
			return badRecord("the member " + name + " is not printable text")
		}
	}
	return nil
}

// Encode returns the record as JSON: compact, byte for byte what azidentity writes, or, if
// Authority is a host without a scheme, what Azure.Identity for Python writes, with a
// space after each comma and colon and in ASCII. So a record of either comes back as it
// was read, and a new one is as azidentity's. Both read both.
func (r AuthenticationRecord) Encode() []byte {
	if !strings.Contains(r.Authority, "://") {
		return r.python()
	}
	text, _ := json.Marshal(r) // strings: cannot fail
	return text
}

// python is what json.dumps makes of the dict that _auth_record.py of Azure.Identity has.
func (r AuthenticationRecord) python() []byte {
	var b []byte
	separator := "{"
	for _, m := range [][2]string{
		{"authority", r.Authority}, {"clientId", r.ClientID}, {"homeAccountId", r.HomeAccountID},
		{"tenantId", r.TenantID}, {"username", r.Username}, {"version", r.Version},
	} {
		b = fmt.Appendf(b, `%s"%s": "`, separator, m[0])
		for _, c := range m[1] {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', byte(c))
			case c >= ' ' && c <= '~':
				b = append(b, byte(c))
			default:
				for _, unit := range utf16.AppendRune(nil, c) {
					b = fmt.Appendf(b, `\u%04x`, unit)
				}
			}
		}
		b, separator = append(b, '"'), ", "
	}
	return append(b, '}')
}

// UnmarshalJSON is [ParseAuthenticationRecord]; null changes nothing. After an error the
// record is as before.
func (r *AuthenticationRecord) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil // as encoding/json asks for
	}
	read, err := ParseAuthenticationRecord(text)
	if err != nil {
		return err
	}
	*r = read
	return nil
}

// String returns "authentication record", so that logs show no account.
func (r AuthenticationRecord) String() string { return "authentication record" }

// LogValue is String, for log/slog.
func (r AuthenticationRecord) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Format writes String for every verb.
func (r AuthenticationRecord) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }
