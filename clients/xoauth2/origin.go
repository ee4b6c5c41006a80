package xoauth2

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// parseOrigin reads an origin (RFC 6454 §6.2) of [TransportOptions].
func parseOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || strings.ContainsAny(text, "?#") {
		return "", fmt.Errorf("xoauth2: %q is not an origin, such as https://api.example.com", text)
	}
	origin, ok := originOf(u)
	if !ok {
		return "", fmt.Errorf("xoauth2: the origin %q is neither https nor on a loopback address", text)
	}
	return origin, nil
}

// originOf returns the origin of a URL in its one spelling: lower case, and
// with the port, also where it is the default. It is not ok where a token could
// be read on the way.
func originOf(u *url.URL) (origin string, ok bool) {
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	switch {
	case host == "" || u.Opaque != "":
		return "", false
	case scheme == "https" && port == "":
		port = "443"
	case scheme == "http" && port == "":
		port = "80"
	}
	if scheme != "https" && (scheme != "http" || !isLoopback(host)) {
		return "", false
	}
	return scheme + "://" + net.JoinHostPort(host, port), true
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
