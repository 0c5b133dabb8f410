// What is beside the thread: on a narrow screen a drawer, which a tap beside it or Escape closes.
import { useEffect, useRef, useState, type ReactNode } from "react";

export function Drawer({ children }: { children: (close: () => void) => ReactNode }) {
  const [isShown, setIsShown] = useState(false); // Only a narrow screen hides it.
  const toggle = useRef<HTMLButtonElement>(null);
  const close = () => setIsShown(false);

  useEffect(() => {
    if (!isShown) return;
    function closeOnEscape(event: KeyboardEvent) {
      if (event.key !== "Escape" || event.defaultPrevented) return; // A menu, or a form, took it for itself.
      setIsShown(false);
      toggle.current?.focus();
    }
    addEventListener("keydown", closeOnEscape);
    return () => removeEventListener("keydown", closeOnEscape);
  }, [isShown]);

  return (
    <>
      <button
        ref={toggle}
        className="list-toggle"
        aria-label="Conversations"
        aria-expanded={isShown}
        onClick={() => setIsShown(!isShown)}
      >
        ☰
      </button>
      {isShown && <div className="beside" onClick={close} />}
      <aside data-shown={isShown}>{children(close)}</aside>
    </>
  );
}
