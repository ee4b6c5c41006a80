package xoauth2

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxReturnTo bounds where a user is sent back to, and maxHint who is expected, in
// bytes.
const (
	maxReturnTo = 2 << 10
	maxHint     = 256
)

// localPath returns a path of this origin, with query and fragment, in the form in
// which every browser takes it for one, and false for whatever might lead elsewhere.
//
// A browser takes a backslash for a slash, drops tabs and line ends wherever they are,
// and takes two slashes at the front for a host (WHATWG URL §4.4). Steps of dots, which
// it removes first, may bring two slashes to the front. What is percent-encoded it leaves
// as it is, but for the dots of such steps.
func localPath(s string) (string, bool) {
	if len(s) > maxReturnTo || !utf8.ValidString(s) || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") {
		return "", false
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c == 0x7f || c == '\\':
			return "", false
		case c >= utf8.RuneSelf, strings.IndexByte("\"<>^`{|}", c) >= 0: // RFC 3986 has no place for them
			_, _ = fmt.Fprintf(&b, "%%%02X", c)
		default:
			_ = b.WriteByte(c)
		}
	}
	path, _, _ := strings.Cut(b.String(), "#")
	path, _, _ = strings.Cut(path, "?")
	for segment := range strings.SplitSeq(path, "/") {
		switch strings.ReplaceAll(strings.ToLower(segment), "%2e", ".") {
		case ".", "..":
			return "", false
		}
	}
	u, err := url.Parse(b.String())
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || u.Opaque != "" || b.Len() > maxReturnTo {
		return "", false
	}
	return b.String(), true
}

// isHint tells whether a text may name a user to the authorization server.
func isHint(s string) bool {
	return len(s) <= maxHint && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// returnTo is where the user of the request wants to go on: at the page that was asked
// for, or where they were when they sent a form, whose contents cannot be sent again.
func (w *Web) returnTo(r *http.Request, program bool) string {
	if !program && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		return w.elsewhere(requestURI(r))
	}
	page, err := url.Parse(r.Header.Get("Referer"))
	own, err2 := url.Parse(w.client.config.RedirectURL)
	if err != nil || err2 != nil || page.Scheme != own.Scheme || page.Host != own.Host {
		return "/"
	}
	return w.elsewhere(page.RequestURI())
}

// requestURI is the request's target as the browser sent it, whatever was stripped of
// its path since then.
func requestURI(r *http.Request) string {
	if r.RequestURI != "" {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}

// elsewhere returns the path if it is a local one, and "/" in place of it and of the
// handlers' own, from which the user would be sent round in a circle.
func (w *Web) elsewhere(path string) string {
	path, ok := localPath(path)
	if !ok {
		return "/"
	}
	u, err := url.Parse(path)
	callback, err2 := url.Parse(w.client.config.RedirectURL)
	if err != nil || err2 != nil || u.Path == w.signInPath || u.Path == callback.Path {
		return "/"
	}
	return path
}

// program tells whether a request is that of a program, which cannot follow a redirect
// to another origin, or would show nobody what is there.
func (w *Web) program(r *http.Request) bool {
	mode, accept := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Accept")
	switch {
	case mode != "" && mode != "navigate", mode == "" && accept != "" && !strings.Contains(accept, "html"):
		return true
	case strings.Contains(accept, "json") && !strings.Contains(accept, "html"):
		return true
	}
	return w.isProgram != nil && w.isProgram(r)
}
