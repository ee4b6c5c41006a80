package idp

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// matchRedirect reports whether uri is one of those registered.
//
// It compares whole strings, after giving a registered loopback URI the port
// of the requested one (RFC 8252 §7.3). Comparing parsed parts instead would
// let through whatever this parser and the browser's disagree about.
func matchRedirect(registered []string, uri string) bool {
	if slices.Contains(registered, uri) {
		return true
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" || !isLoopbackName(u.Hostname()) {
		return false
	}
	for _, r := range registered {
		reg, err := url.Parse(r)
		if err != nil || reg.Scheme != "http" || reg.Hostname() != u.Hostname() {
			continue
		}
		if withPort(r, reg.Host, hostPort(u)) == uri {
			return true
		}
	}
	return false
}

// hostPort is the host of u as written, with its port if it has one.
func hostPort(u *url.URL) string {
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if u.Port() == "" {
		return host
	}
	return host + ":" + u.Port()
}

func withPort(uri, oldHost, newHost string) string {
	return strings.Replace(uri, "://"+oldHost, "://"+newHost, 1)
}

// isLoopbackName reports whether host, without port and brackets, is one of
// the three names of this machine that a redirect URI may use.
func isLoopbackName(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost"
}

// isLoopbackHost reports whether a Host header or a peer address names this
// machine, whatever the port.
func isLoopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// redirectTo answers with 303, which turns a POST into a GET and so does not
// send the login form's fields on (RFC 9700 §4.12). http.Redirect is not used
// because it puts the URL, with its code, into a page body as well.
func redirectTo(w http.ResponseWriter, uri string, params url.Values) {
	if encoded := params.Encode(); encoded != "" {
		sep := "?"
		if strings.Contains(uri, "?") {
			sep = "&"
		}
		uri += sep + encoded
	}
	w.Header().Set("Location", uri)
	w.WriteHeader(http.StatusSeeOther)
}
