package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// maxTask is how long a task may be, in characters.
const maxTask = 200

// task is the page on which a task is written. That needs more than the user has
// signed in for: the first time, asking for the token fails, and [node.fail] sends the
// user to consent, and from there back to this page.
func (n *node) task(w http.ResponseWriter, r *http.Request) {
	err := n.patiently(r.Context(), func(ctx context.Context) error {
		_, err := n.client.Token(ctx, writeScope)
		return err
	})
	if err != nil {
		n.fail(w, r, err)
		return
	}
	n.render(w, http.StatusOK, "task.html", page{Title: "Write a task", Body: maxTask})
}

// writeTask takes the page's form. The user's consent may have ended since the page was
// shown; they are then asked again, and return to the page.
func (n *node) writeTask(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimSpace(r.PostFormValue("text"))
	if text == "" || !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxTask {
		n.fail(w, r, errBadRequest)
		return
	}
	written, err := n.sendTask(r.Context(), text)
	if err != nil {
		n.fail(w, r, err)
		return
	}
	n.sessions.Put(r.Context(), sessionNotice, "The API has your task: "+written)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// sendTask returns what the API has of the text.
func (n *node) sendTask(ctx context.Context, text string) (string, error) {
	leave, err := n.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.issuer.base+"/api/echo", strings.NewReader(text))
	if err != nil {
		return "", err
	}
	resp, err := n.tasks.Do(req)
	if err != nil {
		return "", apiError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := refusedBy(resp); err != nil {
		return "", err
	}
	written, err := io.ReadAll(io.LimitReader(resp.Body, 4*maxTask))
	if err != nil || !utf8.Valid(written) {
		return "", &tokencache.ServerError{Err: errors.New("the API's answer is not a text")}
	}
	return string(written), nil
}
