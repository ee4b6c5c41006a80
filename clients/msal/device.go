package msal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
)

// devices are the sign-ins on devices that have begun, by device code: MSAL asks for a
// token only who has asked for the code.
type devices struct {
	mu      sync.Mutex
	pending map[string]*device
}

// device is one sign-in. Its MSAL client answers through its recorder.
type device struct {
	code public.DeviceCode
	rec  *recorder
}

// maxDevices bounds what those who never come back leave.
const maxDevices = 4096

var errDevice = fmt.Errorf("msal: MSAL signs in no devices for a client with a credential: %w", errors.ErrUnsupported)

// device asks for codes, or once for the token.
func (e *engine) device(ctx context.Context, r *xoauth2.TokenRequest, rec *recorder) (*http.Response, error) {
	switch {
	case e.credential != nil:
		return nil, errDevice
	case r.Form.Get("grant_type") == "":
		return e.beginDevice(ctx, r, rec)
	}
	d := e.devices.get(r.Form.Get("device_code"))
	if d == nil { // it has ended, or was begun by another process
		return refusal("expired_token").response(nil), nil
	}
	resp, issued, err := d.poll(ctx)
	if issued {
		e.devices.drop(d.code.Result.DeviceCode) // with the tokens that MSAL and its recorder hold
	}
	return resp, err
}

func (e *engine) beginDevice(ctx context.Context, r *xoauth2.TokenRequest, rec *recorder) (*http.Response, error) {
	c, err := e.public(rec, &single{}, r.CAE)
	if err != nil {
		return nil, &unaskedError{err}
	}
	scopes := ofOneAPI(r.Scopes)
	code, err := c.AcquireTokenByDeviceCode(ctx, scopes, public.WithTenantID(r.Tenant), public.WithClaims(r.Claims))
	if err == nil {
		e.devices.put(&device{code, rec})
	}
	return rec.outcome(ctx, &confidential.AuthResult{}, err)
}

// poll asks once, as its caller has a rhythm of its own: MSAL would ask on and on. It tells
// whether the answer was tokens.
func (d *device) poll(ctx context.Context) (resp *http.Response, issued bool, err error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	d.rec.begin(cancel)
	result, failed := d.code.AuthenticationResult(waiting)
	resp, err = d.rec.outcome(ctx, &result, failed)
	return resp, failed == nil, err
}

// begin forgets the last answer.
func (r *recorder) begin(answered func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.token, r.refused, r.err, r.answered = nil, nil, nil, answered
}

// refusal is an answer of the token endpoint's kind.
func refusal(code string) *recorded {
	body, _ := json.Marshal(map[string]string{"error": code}) // cannot fail
	return &recorded{status: http.StatusBadRequest, header: http.Header{}, body: body}
}

func (d *devices) get(code string) *device {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pending[code]
}

func (d *devices) drop(code string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pending, code)
}

// put keeps a sign-in until its codes end.
func (d *devices) put(begun *device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for code, other := range d.pending {
		if now.After(other.code.Result.ExpiresOn) || len(d.pending) >= maxDevices {
			delete(d.pending, code)
		}
	}
	if d.pending == nil {
		d.pending = map[string]*device{}
	}
	d.pending[begun.code.Result.DeviceCode] = begun
}
