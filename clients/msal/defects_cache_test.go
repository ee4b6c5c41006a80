package msal_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"
)

// The tests of defects pin what MSAL Go gets wrong and this package works around.
// Each fails when a version of MSAL Go no longer does; its message says what may go
// then. None of them is about this package.

// RemoveAccount, and Accounts of a public client, do not say whose tokens they mean.
func TestDefectRemoveAccountAndAccountsHaveNoKey(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	c := w.client(store)
	ar := w.signIn(c, "anna")
	before := store.get(ar.Account.HomeAccountID)
	if err := c.RemoveAccount(t.Context(), ar.Account); err != nil {
		t.Fatal(err)
	}
	calls := store.calls()
	if got := calls[len(calls)-2:]; !slices.Equal(got, []string{"R ", "E "}) {
		t.Errorf("RemoveAccount names a partition now (%d calls): ExportReplace can let it remove the tokens", len(got))
	}
	if store.get(ar.Account.HomeAccountID) != before {
		t.Error("RemoveAccount has changed the account's partition: it works now, and may be documented so")
	}
	p, err := public.New("client", public.WithCache(store), public.WithHTTPClient(w.http), public.WithAuthority(w.authority()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if calls := store.calls(); calls[len(calls)-1] != "R " {
		t.Error("public.Client.Accounts names a partition now: ExportReplace need not refuse an empty key for its sake")
	}
}

// On behalf of a user: what is read goes to one manager, what is written comes from
// the other, and what was written cannot be read back.
func TestDefectOnBehalfOf(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	token := w.signIn(w.client(nil), "anna").AccessToken
	api := w.middleTier(store)
	if _, err := api.AcquireTokenOnBehalfOf(t.Context(), token, []string{stageMail}); err != nil {
		t.Fatal(err)
	}
	calls := store.calls()
	key := strings.TrimPrefix(calls[len(calls)-1], "E ")
	if !assertionID.MatchString(key) {
		t.Error("the key of an on-behalf-of call is no longer the padded hash of the assertion: adapt how ExportReplace knows one")
	}
	if strings.Contains(store.get(key), `"secret"`) {
		t.Error("what an on-behalf-of call exports has tokens now: it may be the right manager's, and worth storing")
	}
	before := w.requests("token")
	_, err := api.AcquireTokenOnBehalfOf(t.Context(), token, []string{stageMail})
	switch asked := w.requests("token") - before; {
	case err == nil:
		t.Error("a second on-behalf-of call with a cache works now: ExportReplace can serve assertion partitions")
	case asked != 1:
		t.Errorf("the second call asks the server %d times before it fails, not once: adapt the documentation", asked)
	case !strings.Contains(err.Error(), "AdditionalFields"):
		t.Error("the second call fails for another reason than that its manager cannot be filled")
	}
}

// A client that serves signed-in users as well: whatever user it read last is
// exported under the hash of another user's assertion.
func TestDefectOnBehalfOfExportsTheOtherManager(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	anna := w.signIn(w.client(nil), "anna").AccessToken
	berta := w.signIn(w.client(nil), "berta")
	api := w.middleTier(store)
	// As if berta had signed in to this client.
	store.set(berta.Account.HomeAccountID, `{"RefreshToken":{"k":{"home_account_id":"`+berta.Account.HomeAccountID+
		`","credential_type":"RefreshToken","secret":"marker-of-berta"}}}`)
	if _, err := api.Account(t.Context(), berta.Account.HomeAccountID); err != nil {
		t.Fatal(err)
	}
	if _, err := api.AcquireTokenOnBehalfOf(t.Context(), anna, []string{stageMail}); err != nil {
		t.Fatal(err)
	}
	calls := store.calls()
	key := strings.TrimPrefix(calls[len(calls)-1], "E ")
	if !strings.Contains(store.get(key), "marker-of-berta") {
		t.Error("an on-behalf-of call exports its own manager now: ExportReplace may store it")
	}
}

// filled keeps the managers that it was called with.
type filled struct {
	*samples
	partitioned cache.Unmarshaler
}

func (f *filled) Replace(_ context.Context, c cache.Unmarshaler, _ cache.ReplaceHints) error {
	f.partitioned = c
	return c.Unmarshal(nil)
}

func TestDefectPartitionedManagerCannotBeFilled(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), &filled{samples: newSamples()}
	token := w.signIn(w.client(nil), "anna").AccessToken
	if _, err := w.middleTier(store).AcquireTokenOnBehalfOf(t.Context(), token, []string{stageMail}); err != nil {
		t.Fatal(err)
	}
	for _, blob := range []string{"{}", `{"AccessTokensPartition":{}}`} {
		if store.partitioned.Unmarshal([]byte(blob)) == nil {
			t.Errorf("the manager of on-behalf-of tokens accepts %s now: ExportReplace can serve assertion partitions", blob)
		}
	}
}

// Two users in turn, on one client, without any concurrency.
func TestDefectMissLeavesTheClientAsItWas(t *testing.T) {
	t.Parallel()
	for name, noReset := range map[string]bool{"without Unmarshal(nil)": true, "with it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, store := newStage(t), newSamples()
			store.noReset = noReset
			c := w.client(store)
			anna, berta := w.signIn(c, "anna"), w.signIn(c, "berta")
			leaked := strings.Contains(store.get(berta.Account.HomeAccountID), anna.Account.HomeAccountID)
			switch {
			case noReset && !leaked:
				t.Error("a client drops what it held when Replace does nothing: a miss need not call Unmarshal(nil)")
			case !noReset && leaked:
				t.Error("Unmarshal(nil) no longer empties the client: one user's tokens are stored with another's")
			}
		})
	}
}

// The token response has been received, and the refresh token rotated; then the
// store fails, or notices that the request is gone.
func TestDefectErrorsDiscardTokens(t *testing.T) {
	t.Parallel()
	for name, arm := range map[string]func(s *samples, leave func()){
		"Export fails": func(s *samples, _ func()) { s.exportErr = func() error { return errStore } },
		"second Replace fails": func(s *samples, _ func()) {
			calls := 0
			s.replaceErr = func() error {
				if calls++; calls == 2 {
					return errStore
				}
				return nil
			}
		},
		"the request is cancelled": func(s *samples, leave func()) {
			s.exportErr = func() error { leave(); return context.Canceled }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, store := newStage(t), newSamples()
			account := w.signIn(w.client(store), "anna").Account.HomeAccountID
			store.set(account, expired(store.get(account)))
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			arm(store, leave)
			ar, err := w.silent(ctx, w.client(store), account, stageAPI)
			if err == nil || ar.AccessToken != "" {
				t.Fatal("MSAL hands out what could not be stored now: an error of Export need not be hidden from it")
			}
			store.replaceErr, store.exportErr = nil, nil
			_, err = w.silent(t.Context(), w.client(store), account, stageAPI)
			if err == nil || w.idp.Stats().RefreshReused != 1 {
				t.Error("the rotated refresh token was not lost with the answer: an error of Export need not be hidden from MSAL")
			}
		})
	}
}

// A scope that was not granted: the answer is dropped, and with it the rotated
// refresh token, without an Export. No adapter can do anything about it.
func TestDefectDeclinedScopesDiscardTokens(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	account := w.signIn(w.client(store), "anna").Account.HomeAccountID
	w.fault("fewer_scopes")
	before := len(store.calls())
	if _, err := w.silent(t.Context(), w.client(store), account, stageAPI, idpScope); err == nil {
		t.Fatal("an answer with fewer scopes than asked for is accepted now")
	}
	if calls := store.calls()[before:]; slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(c, "E ") }) {
		t.Error("tokens with fewer scopes are exported now: the documentation of ExportReplace may say so")
	}
}

// What other libraries write has a refresh token and no AppMetadata.
func TestDefectNoRefreshWithoutAppMetadata(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	account := w.signIn(w.client(store), "anna").Account.HomeAccountID
	blob := expired(store.get(account))
	store.set(account, strings.Replace(blob, `"AppMetadata"`, `"Elsewhere"`, 1))
	if _, err := w.silent(t.Context(), w.client(store), account, stageAPI); err == nil {
		t.Error("MSAL refreshes without AppMetadata now: ExportReplace need not add it")
	}
	store.set(account, blob)
	if _, err := w.silent(t.Context(), w.client(store), account, stageAPI); err != nil {
		t.Error("MSAL does not refresh with AppMetadata either:", err)
	}
}

// The key of an application's own tokens is unlike any account's. This is no defect,
// but ExportReplace relies on it.
func TestApplicationKeyOfMSAL(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	if _, err := w.client(store).AcquireTokenByCredential(t.Context(), []string{stageMail[:len("api://mail/")] + ".default"}); err != nil {
		t.Fatal(err)
	}
	for _, call := range store.calls() {
		if !strings.HasSuffix(call, "_AppTokenCache") {
			t.Error("the key of the application's own tokens has changed: adapt how ExportReplace knows one")
		}
	}
}

// memories notes which memory each call is about.
type memories struct {
	*samples
	replaced, exported []any
}

func (m *memories) Replace(ctx context.Context, c cache.Unmarshaler, hints cache.ReplaceHints) error {
	m.replaced = append(m.replaced, c)
	return m.samples.Replace(ctx, c, hints)
}

func (m *memories) Export(ctx context.Context, c cache.Marshaler, hints cache.ExportHints) error {
	m.exported = append(m.exported, c)
	return m.samples.Export(ctx, c, hints)
}

// A client is known by its memory, and no other client has it. This is no defect either,
// but ExportReplace finds by it what a client was given.
func TestMemoryOfMSAL(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), &memories{samples: newSamples()}
	account := w.signIn(w.client(store), "anna").Account.HomeAccountID
	store.set(account, expired(store.get(account)))
	if _, err := w.silent(t.Context(), w.client(store), account, stageAPI); err != nil {
		t.Fatal(err)
	}
	want := []bool{true, false, false} // of the first client
	for i, m := range store.replaced {
		if i >= len(want) || (m == store.exported[0]) != want[i] || (m == store.exported[1]) == want[i] {
			t.Fatal("Replace and Export of a client are about different memories: ExportReplace does not find what it gave")
		}
	}
}

// The newer of two entries is known by its date, and by its key.
func TestDefectUndatedTokens(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	account := w.signIn(w.client(store), "anna").Account.HomeAccountID
	if strings.Contains(store.get(account), "last_modification_time") {
		t.Error("MSAL dates its tokens now: ExportReplace need not do it")
	}
	if strings.Contains(store.get(account), `--":{`) {
		t.Error("MSAL Go has the keys of the other libraries now: ExportReplace need not rename")
	}
}
