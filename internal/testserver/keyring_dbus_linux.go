package testserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// Names of https://specifications.freedesktop.org/secret-service-spec/latest/,
// and of what gnome-keyring has beyond that. Its keyring of the user's password
// is the collection "login".
const (
	secretsName     = "org.freedesktop.secrets"
	secretsPath     = dbus.ObjectPath("/org/freedesktop/secrets")
	loginPath       = secretsPath + "/collection/login"
	serviceCalls    = "org.freedesktop.Secret.Service."
	collectionCalls = "org.freedesktop.Secret.Collection."
	withoutAsking   = "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface."
	prompterName    = "org.gnome.keyring.SystemPrompter"
	prompterPath    = dbus.ObjectPath("/org/gnome/keyring/Prompter")
	prompterCalls   = "org.gnome.keyring.internal.Prompter"
	noObject        = dbus.ObjectPath("/")
)

// secret is a Secret Service's: here one that crosses the bus as it is.
type secret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// onBus uses a connection of its own: none is shared with what is tested.
func (k *Keyring) onBus(ctx context.Context, use func(*dbus.Conn) error) error {
	conn, err := dbus.Connect(k.address(), dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("testserver: bus: %w", err)
	}
	if err := errors.Join(use(conn), conn.Close()); err != nil {
		return fmt.Errorf("testserver: keyring: %w", err)
	}
	return nil
}

// ask uses the keyring while it neither ends nor starts.
func (k *Keyring) ask(use func(context.Context, *dbus.Conn) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.proc == nil || !k.proc.alive() {
		return errDown
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return k.onBus(ctx, func(conn *dbus.Conn) error { return use(ctx, conn) })
}

// isUnlocked returns nil if the user's keyring is there and open.
func isUnlocked(conn *dbus.Conn) error {
	var locked bool
	if err := conn.Object(secretsName, loginPath).StoreProperty(collectionCalls+"Locked", &locked); err != nil {
		return err
	}
	if locked {
		return errors.New("it is locked")
	}
	return nil
}

// isGone returns nil if there is no Secret Service.
func isGone(ctx context.Context, conn *dbus.Conn) error {
	var there bool
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, secretsName).Store(&there)
	if err == nil && there {
		err = errors.New("it is there")
	}
	return err
}

// Lock locks the keyring, as a user can, and as it is before the login.
func (k *Keyring) Lock() error {
	return k.ask(func(ctx context.Context, conn *dbus.Conn) error {
		var locked []dbus.ObjectPath
		var prompt dbus.ObjectPath
		err := conn.Object(secretsName, secretsPath).
			CallWithContext(ctx, serviceCalls+"Lock", 0, []dbus.ObjectPath{loginPath}).Store(&locked, &prompt)
		if err == nil && isUnlocked(conn) == nil {
			err = errors.New("it does not lock")
		}
		return err
	})
}

// Unlock unlocks the keyring.
func (k *Keyring) Unlock() error {
	return k.ask(func(ctx context.Context, conn *dbus.Conn) error {
		service := conn.Object(secretsName, secretsPath)
		var output dbus.Variant
		var session dbus.ObjectPath
		err := service.CallWithContext(ctx, serviceCalls+"OpenSession", 0, "plain", dbus.MakeVariant("")).
			Store(&output, &session)
		if err != nil {
			return err
		}
		master := secret{Session: session, Value: []byte(k.password), ContentType: "text/plain"}
		err = service.CallWithContext(ctx, withoutAsking+"UnlockWithMasterPassword", 0, loginPath, master).Err
		return errors.Join(err, isUnlocked(conn))
	})
}

// Delete deletes the keyring, as a user can with a program such as Seahorse.
// There is no default one then, until the next login, which [Keyring.Wipe] is.
func (k *Keyring) Delete() error {
	return k.ask(func(ctx context.Context, conn *dbus.Conn) error {
		var prompt dbus.ObjectPath
		err := conn.Object(secretsName, loginPath).CallWithContext(ctx, collectionCalls+"Delete", 0).Store(&prompt)
		if err == nil && prompt != noObject {
			err = errors.New("deleting it needs a prompt")
		}
		return err
	})
}

// Prompt opens the user's screen, but nobody is there: who uses a locked keyring
// waits for somebody to type its password, for as long as the session lasts.
func (k *Keyring) Prompt() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return errClosed
	case k.prompter != nil:
		return nil
	}
	conn, err := dbus.Connect(k.address())
	if err != nil {
		return fmt.Errorf("testserver: bus: %w", err)
	}
	reply, err := conn.RequestName(prompterName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = errors.New("there is another prompter")
	}
	if err = errors.Join(err, conn.Export(unanswered{}, prompterPath, prompterCalls)); err != nil {
		return fmt.Errorf("testserver: keyring: %w", errors.Join(err, conn.Close()))
	}
	k.prompter = conn
	return nil
}

// unanswered is a prompter whose dialog stays as it is.
type unanswered struct{}

// BeginPrompting takes the request of a dialog. What should follow is that the
// prompter says it is ready.
func (unanswered) BeginPrompting(dbus.ObjectPath) *dbus.Error { return nil }

// StopPrompting closes the dialog.
func (unanswered) StopPrompting(dbus.ObjectPath) *dbus.Error { return nil }
