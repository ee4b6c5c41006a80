package msal_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func delayedToken() idp.Fault {
	return idp.Fault{Endpoint: "token", Delay: 300 * time.Millisecond, Times: crowdWorkers}
}

// The option's argument is called a challenge, and is the verifier.
func TestDefectWithChallengeSendsTheVerifier(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	w.signIn(w.client(nil), "anna") // which passes the verifier
	w.mu.Lock()
	defer w.mu.Unlock()
	form := w.forms[len(w.forms)-1]
	if form.Get("code_verifier") == "" || form.Has("code_challenge") {
		t.Error("WithChallenge no longer sends its argument as code_verifier: adapt the calls of it")
	}
}

func TestDefectAuthCodeURLHasNoProtection(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	link, err := w.client(nil).AuthCodeURL(t.Context(), idp.DefaultClientID, stageCallback, []string{stageAPI})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state", "nonce", "code_challenge", "code_challenge_method", "response_mode"} {
		if u.Query().Has(name) {
			t.Errorf("AuthCodeURL has %s now: it need not be added", name)
		}
	}
	if scope := u.Query().Get("scope"); scope != stageAPI {
		t.Error("AuthCodeURL asks for more than the scopes now: openid and the like need not be added")
	}
}

// edited changes the ID token in the answers of the token endpoint.
func (w *stage) edited(edit func(claims string) string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = func(resp *http.Response) {
		body, err := io.ReadAll(resp.Body)
		var members map[string]any
		if err == nil {
			err = json.Unmarshal(body, &members)
		}
		id, _ := members["id_token"].(string)
		if err != nil || id == "" {
			w.t.Error("an answer without ID token")
			return
		}
		members["id_token"] = unsigned(id, edit)
		body, _ = json.Marshal(members)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp.Header.Del("Content-Length")
	}
}

// replaced is an edit of claims that must find what it replaces.
func (w *stage) replaced(old, with string) func(string) string {
	return func(claims string) string {
		if !strings.Contains(claims, old) {
			w.t.Errorf("the ID token has no %s", old)
		}
		return strings.ReplaceAll(claims, old, with)
	}
}

// The claims of each ID token are changed under the signature that it had.
func TestDefectIDTokenIsNotVerified(t *testing.T) {
	t.Parallel()
	for what, edit := range map[string]func(*stage) func(string) string{
		"signature": func(w *stage) func(string) string { return w.replaced("anna@contoso.test", "root@contoso.test") },
		"nonce":     func(w *stage) func(string) string { return w.replaced(`"nonce":"nonce"`, `"nonce":"other"`) },
		"audience":  func(w *stage) func(string) string { return w.replaced(`"`+idp.DefaultClientID+`"`, `"somebody"`) },
		"issuer":    func(w *stage) func(string) string { return w.replaced(`"iss":"https://`, `"iss":"https://evil.`) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newStage(t)
			code, verifier := w.authorize("anna", "nonce", stageAPI)
			w.edited(edit(w))
			ar, err := w.client(nil).AcquireTokenByAuthCode(t.Context(), code, stageCallback, []string{stageAPI}, confidential.WithChallenge(verifier))
			if err != nil {
				t.Errorf("MSAL looks at the %s of ID tokens now: the documentation may say so", what)
			}
			if what == "signature" && err == nil && ar.Account.PreferredUsername != "root@contoso.test" {
				t.Error("MSAL does not believe a forged ID token now")
			}
		})
	}
}

// With instance discovery, which is on unless it is turned off, a client that is new
// asks for it even if the token is cached.
func TestDefectFreshClientAsksForMetadata(t *testing.T) {
	t.Parallel()
	w, store := newStage(t), newSamples()
	account := w.signIn(w.client(store), "anna").Account.HomeAccountID
	hit := func(discovery bool) (instance, configuration int) {
		instance, configuration = w.requests("instance"), w.requests("openid-configuration")
		ar, err := w.silent(t.Context(), w.client(store, confidential.WithInstanceDiscovery(discovery)), account, stageAPI)
		if err != nil || ar.Metadata.TokenSource != confidential.TokenSourceCache {
			t.Fatal("the token was not cached:", err)
		}
		return w.requests("instance") - instance, w.requests("openid-configuration") - configuration
	}
	for range 2 {
		if instance, configuration := hit(true); instance != 1 || configuration != 0 {
			t.Errorf("%d and %d requests for a hit, not 1 and 0: metadata is kept among clients now, or asked for more often", instance, configuration)
		}
	}
	if instance, configuration := hit(false); instance+configuration != 0 {
		t.Error("a hit without instance discovery asks for metadata now")
	}
	store.set(account, expired(store.get(account)))
	before := w.requests("openid-configuration")
	if _, err := w.silent(t.Context(), w.client(store), account, stageAPI); err != nil {
		t.Fatal(err)
	}
	if n := w.requests("openid-configuration") - before; n != 1 {
		t.Errorf("%d requests for the configuration in a refresh of a new client, not 1", n)
	}
}
