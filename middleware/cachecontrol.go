package middleware

import (
	"net/http"
	"strings"
)

const cacheControl = "Cache-Control"

// forbidStoring sets the field to no-store (RFC 9111 §5.2.2.5), in the memory that
// the caller gives. What an outer middleware has set stays only if it says the same
// already: it may say more, such as no-transform. Anything else was chosen
// before it was known that the response is one user's.
func forbidStoring(h http.Header, value *[1]string) {
	if storingForbidden(h[cacheControl]) {
		return
	}
	value[0] = "no-store"
	h[cacheControl] = value[:]
}

// storingForbidden tells whether the values say no-store to every cache. It reads
// plain lists only: a quoted string might contain anything. With must-understand a
// cache may ignore no-store (RFC 9111 §5.2.2.3).
func storingForbidden(values []string) bool {
	found := false
	for _, value := range values {
		if strings.Contains(value, `"`) {
			return false
		}
		for directive := range strings.SplitSeq(value, ",") {
			switch directive = strings.Trim(directive, " \t"); {
			case strings.EqualFold(directive, "no-store"):
				found = true
			case strings.EqualFold(directive, "must-understand"):
				return false
			}
		}
	}
	return found
}
