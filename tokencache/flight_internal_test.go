package tokencache

import "testing"

// Requests share a flight if nothing in them can change the server's answer.
func TestFlightID(t *testing.T) {
	t.Parallel()
	base := Request{Scopes: []string{"a", "b"}, Tenant: "t", Resource: "r", Claims: "c", Refused: "x"}
	with := func(edit func(*Request)) *Request {
		r := base
		edit(&r)
		return &r
	}
	for name, r := range map[string]*Request{
		"order":     with(func(r *Request) { r.Scopes = []string{"b", "a"} }),
		"case":      with(func(r *Request) { r.Scopes = []string{"A", "b"} }),
		"repeated":  with(func(r *Request) { r.Scopes = []string{"a", "b", "a"} }),
		"identical": with(func(*Request) {}),
	} {
		if flightID(r) != flightID(&base) {
			t.Errorf("%s: there are two flights", name)
		}
	}
	seen := map[string]string{flightID(&base): "the request itself"}
	for name, r := range map[string]*Request{
		"fewer scopes":     with(func(r *Request) { r.Scopes = []string{"a"} }),
		"scopes joined":    with(func(r *Request) { r.Scopes = []string{"ab"} }),
		"another tenant":   with(func(r *Request) { r.Tenant = "u" }),
		"another resource": with(func(r *Request) { r.Resource = "s" }),
		"other claims":     with(func(r *Request) { r.Claims = "d" }),
		"CAE":              with(func(r *Request) { r.CAE = true }),
		"CAE as claims":    with(func(r *Request) { r.Claims = "cae" }),
		"CAE, refused":     with(func(r *Request) { r.CAE, r.Refused = true, "y" }),
		"parts moved":      with(func(r *Request) { r.Tenant, r.Resource = "", "tr" }),
		"another refused":  with(func(r *Request) { r.Refused = "y" }),
		"none refused":     with(func(r *Request) { r.Refused = "" }),
	} {
		if other, ok := seen[flightID(r)]; ok {
			t.Errorf("%s shares a flight with %s", name, other)
		}
		seen[flightID(r)] = name
	}
}
