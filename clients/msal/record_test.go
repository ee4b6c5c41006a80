package msal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A program signs its user in on a device, and its later processes do silently: first
// with the token, then with MSAL and the refresh token, until the sign-in ends.
func TestSilentProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{DeviceInterval: time.Second})
	process := func() *machine { return w.machine(t, "public", msal.Options{Scopes: []string{secondScope}}) }
	first := process()
	d, err := first.BeginDevice(t.Context(), nil)
	must(t, err)
	must(t, w.idp.ApproveDevice(d.UserCode, "anna"))
	ticket, err := first.CompleteDevice(t.Context(), d)
	must(t, err)
	record, err := first.AuthenticationRecord(t.Context(), ticket)
	must(t, err)
	if record.Authority != w.idp.URL() || record.ClientID != "public" || record.TenantID != idp.DefaultTenant ||
		record.HomeAccountID != ticket.Account() || record.Username != "anna@contoso.test" {
		t.Error("the record is another one")
	}

	for _, refreshes := range []int64{0, 1} {
		before, m := w.idp.Stats().TokenRequests.RefreshToken, process()
		again, err := xoauth2.ParseAuthenticationRecord(record.Encode())
		must(t, err)
		got, err := m.SignInSilently(t.Context(), again)
		must(t, err)
		if n := w.idp.Stats().TokenRequests.RefreshToken - before; got != ticket || n != refreshes {
			t.Errorf("another ticket, or %d refreshes", n)
		}
		m.token(t, m.of(t, got.Key()), secondScope)
		m.expire(t, got.Key())
	}

	m := process()
	w.fault(t, idp.Fault{Endpoint: "token", Status: 503, Times: 1000})
	_, err = m.SignInSilently(t.Context(), record)
	if server := (*tokencache.ServerError)(nil); !errors.As(err, &server) || errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("the server is down: %v", err)
	}
	clean(t, err, "anna", ticket.Account())
	w.idp.ClearFault("token")
	_, err = w.idp.RevokeUser("anna")
	must(t, err)
	_, err = process().SignInSilently(t.Context(), record)
	if !errors.Is(err, tokencache.ErrInvalidGrant) {
		t.Errorf("revoked: %v", err)
	}
	other := w.machine(t, "app", msal.Options{ClientSecret: appSecret, RedirectURL: callbackURL, Scopes: []string{mineScope}})
	if _, err := other.SignInSilently(t.Context(), record); !errors.Is(err, xoauth2.ErrRecord) {
		t.Errorf("another client: %v", err)
	}
}
