package xoauth2

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// What comes from a login form: what is let through arrives as it was, and an error
// tells nothing of it.
func FuzzCredentials(f *testing.F) {
	for _, c := range [][2]string{
		{"anna", "secret"}, {"", "x"}, {"x", ""}, {"a\nb", "x"}, {"a&password=b", "c=d"}, {"\t ü\u2028😀", "\ufffd"}, {"\xff", "x"}, {"x", "\ufffe"},
	} {
		f.Add(c[0], c[1])
	}
	texts := map[string]bool{}
	for _, c := range [][2]string{{"", ""}, {"\n", "\n"}, {"a", strings.Repeat("b", maxCredentials)}} {
		texts[checkCredentials(c[0], c[1]).Error()] = true
	}
	f.Fuzz(func(t *testing.T, username, password string) {
		if err := checkCredentials(username, password); err != nil {
			if !errors.Is(err, ErrPassword) || !texts[err.Error()] {
				t.Error("the error is another one")
			}
			return
		}
		for _, s := range []string{username, password} {
			control := strings.ContainsFunc(s, func(r rune) bool { return r < 0x80 && r != '\t' && unicode.IsControl(r) })
			if s == "" || !utf8.ValidString(s) || control || len(s) > maxCredentials {
				t.Errorf("%q is let through", s)
			}
		}
		form, err := url.ParseQuery(url.Values{"username": {username}, "password": {password}}.Encode())
		if err != nil || len(form) != 2 || form.Get("username") != username || form.Get("password") != password {
			t.Errorf("%q and %q arrive as something else", username, password)
		}
	})
}
