"""The script of the page: the slider of samples, videos, the read-out of charts.

Without it everything is still shown: all samples one after the other, and charts with
their numbers in tables.
"""

SCRIPT = """
'use strict';
document.documentElement.classList.add('js');

function samples(part) {
  const slider = part.querySelector('input[type=range]');
  const output = part.querySelector('output');
  const button = part.querySelector('button');
  const steps = JSON.parse(slider.dataset.steps);
  const panels = [...part.querySelectorAll('.panel')].map(
    (panel) => [...panel.querySelectorAll('figure')]);
  function show() {
    const step = steps[Number(slider.value)];
    output.textContent = 'step ' + step.toLocaleString('en');
    slider.setAttribute('aria-valuetext', output.textContent);
    for (const figures of panels) {
      // The newest up to this step; the first if there is none.
      let chosen = figures[0];
      for (const figure of figures) {
        if (Number(figure.dataset.step) <= step) chosen = figure;
      }
      for (const figure of figures) figure.hidden = figure !== chosen;
    }
  }
  slider.addEventListener('input', show);
  show();
  if (!button) return;
  function still(on) {
    button.setAttribute('aria-pressed', String(on));
    part.classList.toggle('still', on);
  }
  button.addEventListener('click',
    () => still(button.getAttribute('aria-pressed') !== 'true'));
  still(matchMedia('(prefers-reduced-motion: reduce)').matches);
}

function films(part) {
  const videos = [...part.querySelectorAll('video')];
  const button = part.querySelector('button');
  if (!videos.length || !button) return;
  let playing = false;
  button.addEventListener('click', () => {
    playing = !playing;
    for (const video of videos) {
      if (playing) { video.currentTime = 0; video.play(); } else video.pause();
    }
    button.textContent = playing ? 'Pause all' : 'Play all';
  });
}

function chart(plot) {
  const data = JSON.parse(plot.dataset.chart);
  const [low, high, left, right] = data.axis;
  const cursor = plot.querySelector('.cursor');
  const output = plot.parentElement.querySelector('output');
  const svg = plot.querySelector('svg');
  const all = [...new Set(data.lines.flatMap((line) => line.steps))];
  const steps = all.sort((a, b) => a - b);
  function nearest(list, step) {
    let best = 0;
    list.forEach((other, i) => {
      if (Math.abs(other - step) < Math.abs(list[best] - step)) best = i;
    });
    return best;
  }
  let at = steps.length - 1;
  function show(place) {
    at = Math.min(Math.max(place, 0), steps.length - 1);
    const step = steps[at];
    const x = left + (step - low) / (high - low) * (right - left);
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    cursor.style.visibility = 'visible';
    const words = data.lines.filter((line) => step <= line.steps.at(-1)).map((line) => {
      const i = nearest(line.steps, step);
      const where = line.steps[i] === step ? '' :
        ' (step ' + line.steps[i].toLocaleString('en') + ')';
      return line.name + (line.name ? ': ' : '') + line.values[i] + where;
    });
    output.textContent = 'step ' + step.toLocaleString('en') + ' \\u00b7 ' +
      words.join(' \\u00b7 ');
    plot.setAttribute('aria-valuenow', step);
    plot.setAttribute('aria-valuetext', output.textContent);
  }
  plot.tabIndex = 0;
  plot.setAttribute('role', 'slider');
  plot.setAttribute('aria-label', svg.querySelector('title').textContent);
  plot.setAttribute('aria-describedby', svg.querySelector('desc').id);
  plot.setAttribute('aria-valuemin', steps[0]);
  plot.setAttribute('aria-valuemax', steps.at(-1));
  plot.setAttribute('aria-valuenow', steps[at]);
  plot.setAttribute('aria-valuetext', 'step ' + steps[at].toLocaleString('en'));
  plot.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    show(nearest(steps, low + (x - left) / (right - left) * (high - low)));
  });
  plot.addEventListener('keydown', (event) => {
    const far = Math.max(1, Math.round(steps.length / 10));
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1,
      ArrowUp: at + 1, PageDown: at - far, PageUp: at + far, Home: 0,
      End: steps.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(moves[event.key]);
  });
}

document.querySelectorAll('.samples').forEach(samples);
document.querySelectorAll('.filmset').forEach(films);
document.querySelectorAll('.plot').forEach(chart);
"""
