# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which numbers of an answer are read: no part of a longer number, nothing of another unit, every right spelling."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.answers import ASPECTS, CVS_COMPONENTS, PARSERS, Parsed, render_tal

SPANS = [(22.0, 78.0), (89.0, 94.0)]
BOXES = {66.0: (100.0, 50.0, 300.0, 200.0), 74.0: (110.0, 60.0, 310.0, 210.0)}
EVENTS = [(0.0, 88.0, "cut"), (90.0, 95.0, "sew")]
CVS = dict(zip(CVS_COMPONENTS, (2, 1, 0), strict=True))
SKILLS = dict(zip(ASPECTS, (2, 1, 1, 2, 1, 3), strict=True))

SPANS_SAID = [
    "from 22.0 to 78.0 and from 89.0 to 94.0 seconds",
    "22.0-78.0 and 89.0-94.0",
    "22-78, 89-94 s",
    "Between 22 and 78 seconds, and between 89 and 94 s.",
    "- 22.0-78.0 seconds\n- 89.0-94.0 seconds",
    "1. 22.0-78.0\n2. 89.0-94.0",
    "22.0s-78.0s; 89.0s-94.0s",
    "The action occurs from 22.0 to 78.0 seconds and from 89.0 to 94.0 seconds.",
    "22.0 seconds to 78.0 seconds, 89.0 seconds to 94.0 seconds",
    "22.0-78.0,89.0-94.0 seconds.",
    "22-78,89-94 seconds",
    "**22.0-78.0**, **89.0-94.0** seconds",
    "[22.0-78.0, 89.0-94.0] seconds",
    "(22.0-78.0), (89.0-94.0)",
    "22.0 - 78.0 sec, 89.0 - 94.0 sec.",
    "22.0–78.0, 89.0–94.0 seconds",
    "22.0 ~ 78.0 secs and 89.0 ~ 94.0 secs",
    "time 22-78 and 89-94",
    "Timestamps: 22.0-78.0, 89.0-94.0",
    "The segments are 22.0-78.0 and 89.0-94.0.",
    "22.0-78.0: the surgeon cuts\n89.0-94.0: again",
    "Span 1: 22.0-78.0 seconds, Span 2: 89.0-94.0 seconds",
    "Answer:22.0-78.0, 89.0-94.0 seconds",
    "22.0-78.0 seconds (the first frames), 89.0-94.0 seconds (the end)",
    "The frames show the hook from 22.0 to 78.0 and 89.0 to 94.0.",
    "In the video, 22-78 and 89-94.",
    "22.0-78.0 seconds | 89.0-94.0 seconds",
    "~22.0-78.0, ~89.0-94.0 seconds",
    "'22.0-78.0', '89.0-94.0'",
    '{"spans": ["22.0-78.0 seconds", "89.0-94.0 seconds"]}',
    '{"spans": ["22.0-78.0", "89.0-94.0"]}',
    "22.0-78.0 Seconds, 89.0-94.0 SECONDS",
    "22.0-78.0 seconds, then 89.0-94.0 seconds",
    "22.0-78.0 seconds\xa0and 89.0\xa0-\xa094.0 seconds",
    "22.0−78.0, 89.0−94.0 seconds",
    "22.0-78.0s, 89.0-94.0s.",
    "Event happens between 22.0 and 78.0, and between 89.0 and 94.0.",
]

NO_SPANS = [
    "1,000-1,200 seconds.",
    "1.000,5-1.200,5 seconds",
    "3-7 minutes",
    "3 to 7 minutes",
    "from 3 to 7 min",
    "3-7 min.",
    "3 – 7 hours",
    "3-7 h",
    "3-7h",
    "3-7m",
    "3-7 m",
    "3-7ms",
    "3-7 ms",
    "3-7 milliseconds",
    "frames 3 to 7",
    "frames 3-7",
    "Frame 3-7.",
    "frame 3 to frame 7",
    "frames: 3-7",
    "Frames = 3-7",
    "frames from 3 to 7",
    "frame numbers 3-7",
    "frames #3-7",
    "frame nos. 3-7",
    "3-7 frames",
    "3–7th frames",
    "a stone of 3-7 mm",
    "a stone of 3-7",
    "3-7 cm",
    "3-7mm",
    "3-7 mL",
    "3-7 %",
    "3-7%",
    "3-7 percent",
    "3-7 years",
    "aged 3-7",
    "3-7 days",
    "3-7 stitches",
    "3-7 fps",
    "3-7°",
    "3-7 degrees",
    "steps 1-2",
    "Steps 3 to 7",
    "phase 3-7",
    "page 3-7",
    "score 3-7",
    "0:03-0:07",
    "00:03-00:07",
    "00:00:03 - 00:00:07",
    "00:03.0-00:07.0",
    "3:00-7:00 seconds",
    "2,5-3,5 seconds",
    "2,0-5,0 seconds.",
    "1 000-1 200 seconds",
    "1\xa0000-1\xa0200 seconds",
    "1'000-1'200 seconds",
    "1’000-1’200 seconds",
    "1.2.3-4.5.6",
    "v1.2-1.3",
    "2024-03-07",
    "3/7-4/8",
    "1e3-2e3 seconds",
    "10^3-10^4 s",
    "3 min 10 s to 4 min 20 s",
    "3 min 10-20 s",
    "3 minutes and 10-20 seconds",
    "1 h 3-7 s",
    "3-7, 8-9 minutes",
    "3-7 and 8-9 minutes",
    "frames 3-7, 8-9",
    "frames 3-7 and 8-9",
    "between 3 and 7 minutes",
    "between 3 and 7 mm",
    "between frames 3 and 7",
    "between frame 3 and frame 7",
    "ratio 3-7",
    "size: 3-7",
    "Fig. 3-7",
    "3-7 px",
    "3-7 Fr catheter",
    "5-0 suture",
    "a 3-0 Vicryl suture",
    "2-0 silk",
    "L4-5",
    "T10-12",
    "C3-7",
    "COVID-19 3-7",
    "grade 3-7",
    "Grades 2-3",
    "3-7 (minutes)",
    "(3-7 mm)",
    "3-7-minute",
    "3-7-mm",
    "$3-7",
    "€3-7",
    "+3-7 mm",
    "1.5-2 hours",
    "1/2-3/4 s",
    "½-1 s",
    "３-７ seconds",
    "3-７ seconds",
    "-3--7 seconds",
    "3 to 7 of 10 polyps",
    "3-7 times",
    "3 to 7 o'clock",
    "3-7 x",
    "3-7x magnification",
    "3-7 units",
    "3-7 cc",
    "3-7 mmHg",
    "3-7 bpm",
    "3-7 Hz",
    "3-7 kg",
    "3-7 g",
    "1,000 to 1,200",
    "12,000-13,000 seconds",
    "1,5 to 2,5 s",
    "10,5-20,5, 30,5-40,5 seconds",
    "chapter 3-7",
    "patients 3-7",
    "3-7 patients",
    "bed 3-7",
    "room 3-7",
    "level 3-7",
    "3-7 ′",
    "3-7 points",
    "3-7 out of 10",
    "options 3-7",
    "items 3-7",
    "#3-7",
    "No. 3-7",
    "No.3-7",
    "3-7 weeks",
    "3-7 seconds²",
    "1 234-5 678 seconds",
    "0,5-1,5 seconds",
    "1.234.567-2.345.678 seconds",
    "3-7min",
    "frame range 3-7",
    "frame index 3 to 7",
    "frame idx 3-7",
    "第3-7帧",
    "3-7秒",
    "3-7分",
    "minute 3-7",
    "minutes 3 to 7",
    "min 3-7",
    "hour 3-7",
]

BOXES_SAID = [
    "66.0 seconds: [100, 50, 300, 200], 74.0 seconds: [110, 60, 310, 210]",
    "66.0 seconds: [100, 50, 300, 200]\n74.0 seconds: [110, 60, 310, 210]",
    "- 66.0 seconds: [100, 50, 300, 200]\n- 74.0 seconds: [110, 60, 310, 210]",
    "1. 66.0 seconds: [100, 50, 300, 200]\n2. 74.0 seconds: [110, 60, 310, 210]",
    "**66.0 seconds**: [100, 50, 300, 200] **74.0 seconds**: [110, 60, 310, 210]",
    "**66.0 seconds:** [100, 50, 300, 200] **74.0 seconds:** [110, 60, 310, 210]",
    "66.0s: [100, 50, 300, 200] 74.0s: [110, 60, 310, 210]",
    "66.0: [100, 50, 300, 200], 74.0: [110, 60, 310, 210]",
    '{"66.0": [100, 50, 300, 200], "74.0": [110, 60, 310, 210]}',
    '{"66.0 seconds": [100, 50, 300, 200], "74.0 seconds": [110, 60, 310, 210]}',
    '```json\n{"66.0": [100, 50, 300, 200], "74.0": [110, 60, 310, 210]}\n```',
    "At 66.0 seconds: [100, 50, 300, 200]; at 74.0 seconds: [110, 60, 310, 210]",
    "at 66.0: [100, 50, 300, 200], at 74.0: [110, 60, 310, 210]",
    "t=66.0: [100, 50, 300, 200], t=74.0: [110, 60, 310, 210]",
    "Time 66.0: [100, 50, 300, 200] Time 74.0: [110, 60, 310, 210]",
    "66.0 seconds: <box>[100, 50, 300, 200]</box> 74.0 seconds: <box>[110, 60, 310, 210]</box>",
    "66.0 seconds: [100, 50, 300, 200]<br>74.0 seconds: [110, 60, 310, 210]",
    "66.0 seconds: (100, 50, 300, 200) 74.0 seconds: (110, 60, 310, 210)",
    "66.0 seconds: [100,50,300,200] 74.0 seconds: [110,60,310,210]",
    "`66.0 seconds: [100, 50, 300, 200]` `74.0 seconds: [110, 60, 310, 210]`",
    "66.0 seconds = [100, 50, 300, 200] 74.0 seconds = [110, 60, 310, 210]",
    "66.0 second: [100, 50, 300, 200] 74.0 second: [110, 60, 310, 210]",
    "Second 66: [100, 50, 300, 200], second 74: [110, 60, 310, 210]",
    "{66.0: [100, 50, 300, 200], 74.0: [110, 60, 310, 210]}",
    "Bounding boxes: 66.0 seconds: [100, 50, 300, 200], 74.0 seconds: [110, 60, 310, 210]",
    "The boxes are 66.0 seconds: [100, 50, 300, 200] and 74.0 seconds: [110, 60, 310, 210].",
    "66.0 seconds: [[100, 50, 300, 200]] 74.0 seconds: [[110, 60, 310, 210]]",
]

NO_BOXES = [
    "box 1: [100, 50, 300, 200], box 2: [110, 60, 310, 210]",
    "Box 1: [100, 50, 300, 200]",
    "frame 1: [100, 50, 300, 200]",
    "Frame 30: [100, 50, 300, 200]",
    "frames 1 [100, 50, 300, 200]",
    "object 1: [100, 50, 300, 200]",
    "bbox 1: [100, 50, 300, 200]",
    "1,000 seconds: [100, 50, 300, 200]",
    "1 000 seconds: [100, 50, 300, 200]",
    "1\xa0000 seconds: [100, 50, 300, 200]",
    "1 min: [100, 50, 300, 200]",
    "1 minutes: [100, 50, 300, 200]",
    "0:01: [100, 50, 300, 200]",
    "00:00:01: [100, 50, 300, 200]",
    "3 min 10 seconds: [100, 50, 300, 200]",
    "-1.0 seconds: [100, 50, 300, 200]",
    "1,5 seconds: [100, 50, 300, 200]",
    "1 ms: [100, 50, 300, 200]",
    "1 h: [100, 50, 300, 200]",
    "instrument 1: [100, 50, 300, 200]",
    "hook 2: [100, 50, 300, 200]",
    "tool 1 [100, 50, 300, 200]",
    "x1: [100, 50, 300, 200]",
    "#1: [100, 50, 300, 200]",
    "Frame #1: [100, 50, 300, 200]",
    "frame no. 1: [100, 50, 300, 200]",
    "Frame: 1: [100, 50, 300, 200]",
    "image 1: [100, 50, 300, 200]",
    "step 1: [100, 50, 300, 200]",
    "1.0.0: [100, 50, 300, 200]",
    "1/2: [100, 50, 300, 200]",
    "1%: [100, 50, 300, 200]",
    "box 1 = [100, 50, 300, 200]",
    "bounding box 1: [100, 50, 300, 200]",
    "box1: [100, 50, 300, 200]",
    "id 1: [100, 50, 300, 200]",
    "track 3: [100, 50, 300, 200]",
    "1st: [100, 50, 300, 200]",
    "1 second: [1,5, 2,5, 3,5, 4,5]",
    "1 second: [1.5.2, 2, 3, 4]",
    "1 second: [1, 2, 3, 4px]",
    "1 second: [10%, 20%, 30%, 40%]",
    "1 second: [1, 2, 3, 4, 5]",
    "1 second: [1e2, 2, 3, 4]",
]

EVENTS_SAID = [
    "0.0-88.0 seconds: cut\n90.0-95.0 seconds: sew",
    "- 0.0-88.0 seconds: cut\n- 90.0-95.0 seconds: sew",
    "1. 0.0-88.0 seconds: cut\n2. 90.0-95.0 seconds: sew",
    "**0.0-88.0 seconds:** cut\n**90.0-95.0 seconds:** sew",
    "**0.0-88.0 seconds**: cut\n**90.0-95.0 seconds**: sew",
    "0.0-88.0 seconds: cut<br>90.0-95.0 seconds: sew",
    "0.0-88.0 seconds: cut\n\n90.0-95.0 seconds: sew",
    "0.0 - 88.0 seconds: cut\n90.0 - 95.0 seconds: sew",
    "0.0–88.0 s: cut\n90.0–95.0 s: sew",
    "[0.0-88.0 seconds]: cut\n[90.0-95.0 seconds]: sew",
    "0-88: cut\n90-95: sew",
    "- 0-88: cut\n- 90-95: sew",
    "0.0-88.0 seconds: **cut**\n90.0-95.0 seconds: **sew**",
    "0.0-88.0 seconds: `cut`\n90.0-95.0 seconds: `sew`",
    '["0.0-88.0 seconds: cut\\n90.0-95.0 seconds: sew"]',
    "Event 1: 0.0-88.0 seconds: cut\nEvent 2: 90.0-95.0 seconds: sew",
    "from 0.0 to 88.0 seconds: cut\nfrom 90.0 to 95.0 seconds: sew",
    "* 0.0-88.0 seconds: cut\n* 90.0-95.0 seconds: sew",
    "• 0.0-88.0 seconds: cut\n• 90.0-95.0 seconds: sew",
    "> 0.0-88.0 seconds: cut\n> 90.0-95.0 seconds: sew",
    "0.0-88.0 seconds - cut\n90.0-95.0 seconds - sew",
    "<p>0.0-88.0 seconds: cut</p><p>90.0-95.0 seconds: sew</p>",
    "<ul><li>0.0-88.0 seconds: cut</li><li>90.0-95.0 seconds: sew</li></ul>",
    "0.0-88.0 seconds: cut  \n90.0-95.0 seconds: sew",
    "1) 0.0-88.0 seconds: cut\n2) 90.0-95.0 seconds: sew",
    "(1) 0.0-88.0 seconds: cut\n(2) 90.0-95.0 seconds: sew",
    '0.0-88.0 seconds: "cut"\n90.0-95.0 seconds: "sew"',
    '["0.0-88.0 seconds: cut", "90.0-95.0 seconds: sew"]',
    "| 0.0-88.0 seconds: cut |\n| 90.0-95.0 seconds: sew |",
    "### 0.0-88.0 seconds: cut\n### 90.0-95.0 seconds: sew",
]

NO_EVENTS = [
    "1,000-1,200 seconds: cut",
    "3-7 minutes: cut",
    "frames 3-7: cut",
    "3:00-7:00: cut",
    "00:03-00:07: cut",
    "2,5-3,5 seconds: cut",
    "1 000-1 200 seconds: cut",
    "1 100-200 seconds: cut",
    "3 min 10-20 seconds: cut",
    "steps 3-7: cut",
    "3-7 mm: cut",
    "1e3-2e3 seconds: cut",
    "1.2.3-4 seconds: cut",
    "3-7h: cut",
    "-3-7 seconds: cut",
    "frames 3-7 - cut",
    "3-7 frames: cut",
    "3/7-4/8 seconds: cut",
    "1,000-1,200: cut",
    "1 000-1 200: cut",
    "2,5-3,5: cut",
]

CVS_SAID = [
    '{"Two structures": 2, "Cystic plate": 1, "Hepatocystic triangle": 0}',
    '{"two_structures": 2, "cystic_plate": 1, "hepatocystic_triangle": 0}',
    "{'two_structures': 2, 'cystic_plate': 1, 'hepatocystic_triangle': 0}",
    '{"two_structures":2,"cystic_plate":1,"hepatocystic_triangle":0}',
    '{"Two structures": "2", "Cystic plate": "1", "Hepatocystic triangle": "0"}',
    '{"Two structures": "2/2", "Cystic plate": "1/2", "Hepatocystic triangle": "0/2"}',
    "**Two structures**: 2, **Cystic plate**: 1, **Hepatocystic triangle**: 0",
    "**Two structures: 2**, **Cystic plate: 1**, **Hepatocystic triangle: 0**",
    "- Two structures: 2\n- Cystic plate: 1\n- Hepatocystic triangle: 0",
    "1. Two structures: 2\n2. Cystic plate: 1\n3. Hepatocystic triangle: 0",
    "| Two structures | 2 |\n| Cystic plate | 1 |\n| Hepatocystic triangle | 0 |",
    "Two structures (2), Cystic plate (1), Hepatocystic triangle (0)",
    "Two structures - 2, Cystic plate - 1, Hepatocystic triangle - 0",
    "Two structures = 2; Cystic plate = 1; Hepatocystic triangle = 0.",
    "Two structures: 2/2, Cystic plate: 1/2, Hepatocystic triangle: 0/2",
    "Two structures: 2 (clear), Cystic plate: 1 (partial), Hepatocystic triangle: 0 (none)",
    "Two structures: 2 points, Cystic plate: 1 point, Hepatocystic triangle: 0 points",
    "Two structures score: 2, Cystic plate score: 1, Hepatocystic triangle score: 0",
    "Two structures is 2, Cystic plate is 1, Hepatocystic triangle is 0",
    "Two structures (0-2): 2, Cystic plate (0-2): 1, Hepatocystic triangle (0-2): 0",
    "Two structures: [2], Cystic plate: [1], Hepatocystic triangle: [0]",
    "Two structures: **2**, Cystic plate: **1**, Hepatocystic triangle: **0**",
    "TWO STRUCTURES: 2, CYSTIC PLATE: 1, HEPATOCYSTIC TRIANGLE: 0",
    "Two structures:2,Cystic plate:1,Hepatocystic triangle:0",
    "Two structures: 2\nCystic plate: 1\nHepatocystic triangle: 0",
    "Two structures: 2. Cystic plate: 1. Hepatocystic triangle: 0.",
    "Two structures → 2, Cystic plate → 1, Hepatocystic triangle → 0",
    "Two structures -> 2, Cystic plate -> 1, Hepatocystic triangle -> 0",
    (
        "<tr><td>Two structures</td><td>2</td></tr><tr><td>Cystic plate</td><td>1</td></tr><tr><t"
        "d>Hepatocystic triangle</td><td>0</td></tr>"
    ),
    "Two structures: 2 out of 2, Cystic plate: 1 out of 2, Hepatocystic triangle: 0 out of 2",
    '```json\n{\n  "Two structures": 2,\n  "Cystic plate": 1,\n  "Hepatocystic triangle": 0\n}\n```',
    "Two-structures: 2, Cystic-plate: 1, Hepatocystic-triangle: 0",
    "Two structures: 2; Cystic plate: 1; Hepatocystic triangle: 0;",
    "Scores: Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0",
    "Two structures: 2 - clear\nCystic plate: 1 - partial\nHepatocystic triangle: 0 - none",
    "Two structures: 2, Cystic plate: 1 and Hepatocystic triangle: 0",
    "{Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0}",
    '{"scores": {"Two structures": 2, "Cystic plate": 1, "Hepatocystic triangle": 0}}',
    '"Two structures": 2, "Cystic plate": 1, "Hepatocystic triangle": 0',
    "Two structures: 2，Cystic plate: 1，Hepatocystic triangle: 0。",
    "Two structures： 2, Cystic plate： 1, Hepatocystic triangle： 0",
    "`Two structures`: 2, `Cystic plate`: 1, `Hepatocystic triangle`: 0",
    "_Two structures_: 2, _Cystic plate_: 1, _Hepatocystic triangle_: 0",
]

NO_CVS = [
    "Two structures: 1.5",
    "Two structures: 12",
    "Two structures: 1,5",
    "Two structures: 1-2",
    "Two structures: 1 to 2",
    "Two structures: 1 or 2",
    "Two structures: 1/5",
    "Two structures: 1/20",
    "Two structures: -1",
    "Two structures: - 1.5",
    "Two structures: 1%",
    "Two structures: 10%",
    "Two structures: 2 mm",
    "Two structures: 2 seconds",
    "Two structures: ２",
    "Two structures: nan",
    "Two structures: 1e0",
    "Two structures: .5",
    "Two structures: 0x2",
    "Two structures: 2:1",
    "Two structures: 1/2/2",
    "Two structures: ½",
    "Two structures: 2nd",
    "Two structures: +1",
    "Two structures: >1",
    "Two structures: 1–2",
    "Two structures: 1~2",
    "Two structures, 2 clips",
    "Two structures: none",
    "Two structures: 1, Two structures: 2",
    "Two structures: two",
    "Two structures: 1 of 5",
    "Two structures: 2 cm",
    "Two structures: 0.5/2",
    "Two structures: 1 / 20",
    "Two structures: 002",
    "Two structures: 1²",
    "Two structures: 1°",
    "Two structures are 2 mm apart",
    "Two structures 2.5",
    "Two structures: 1 - 2",
    "Two structures: ~1",
    "Two structures: ≥1",
]

SKILLS_SAID = [
    (
        '{"Respect for tissue": 2, "Suture/needle handling": 1, "Time and motion": 1, "Flow of op'
        'eration": 2, "Overall performance": 1, "Quality of final product": 3}'
    ),
    (
        '{"Respect for tissue": "2/5", "Suture/needle handling": "1/5", "Time and motion": "1/5",'
        ' "Flow of operation": "2/5", "Overall performance": "1/5", "Quality of final product": "'
        '3/5"}'
    ),
    (
        '{"respect_for_tissue": 2, "suture_needle_handling": 1, "time_and_motion": 1, "flow_of_op'
        'eration": 2, "overall_performance": 1, "quality_of_final_product": 3}'
    ),
    (
        '{"respect_for_tissue": 2, "suture/needle_handling": 1, "time_and_motion": 1, "flow_of_op'
        'eration": 2, "overall_performance": 1, "quality_of_final_product": 3}'
    ),
    (
        "Respect for tissue: 2 / 5, Suture/needle handling: 1 / 5, Time and motion: 1 / 5, Flow o"
        "f operation: 2 / 5, Overall performance: 1 / 5, Quality of final product: 3 / 5"
    ),
    (
        "Respect for tissue: 2 out of 5, Suture/needle handling: 1 out of 5, Time and motion: 1 o"
        "ut of 5, Flow of operation: 2 out of 5, Overall performance: 1 out of 5, Quality of fina"
        "l product: 3 out of 5"
    ),
    (
        "Respect for tissue: 2/5\n- Suture/needle handling: 1/5\n- Time and motion: 1/5\n- Flow of o"
        "peration: 2/5\n- Overall performance: 1/5\n- Quality of final product: 3/5"
    ),
    (
        "Respect for tissue: 2/5, Suture / needle handling: 1/5, Time and motion: 1/5, Flow of op"
        "eration: 2/5, Overall performance: 1/5, Quality of final product: 3/5"
    ),
    (
        "Respect for tissue: 2/5, Suture and needle handling: 1/5, Time and motion: 1/5, Flow of "
        "operation: 2/5, Overall performance: 1/5, Quality of final product: 3/5"
    ),
    (
        "Respect for tissue - 2/5, Suture/needle handling - 1/5, Time and motion - 1/5, Flow of o"
        "peration - 2/5, Overall performance - 1/5, Quality of final product - 3/5"
    ),
    (
        "Respect for tissue | 2/5, Suture/needle handling | 1/5, Time and motion | 1/5, Flow of o"
        "peration | 2/5, Overall performance | 1/5, Quality of final product | 3/5"
    ),
    (
        "| Respect for tissue | 2/5 |\n| Suture/needle handling | 1/5 |\n| Time and motion | 1/5 |\n"
        "| Flow of operation | 2/5 |\n| Overall performance | 1/5 |\n| Quality of final product | 3"
        "/5 |"
    ),
    (
        "RESPECT FOR TISSUE: 2/5, SUTURE/NEEDLE HANDLING: 1/5, TIME AND MOTION: 1/5, FLOW OF OPER"
        "ATION: 2/5, OVERALL PERFORMANCE: 1/5, QUALITY OF FINAL PRODUCT: 3/5"
    ),
    (
        "Respect for tissue = 2; Suture/needle handling = 1; Time and motion = 1; Flow of operati"
        "on = 2; Overall performance = 1; Quality of final product = 3"
    ),
    (
        "Respect for tissue (2/5), Suture/needle handling (1/5), Time and motion (1/5), Flow of o"
        "peration (2/5), Overall performance (1/5), Quality of final product (3/5)"
    ),
    (
        "**Respect for tissue**: 2/5, **Suture/needle handling**: 1/5, **Time and motion**: 1/5, "
        "**Flow of operation**: 2/5, **Overall performance**: 1/5, **Quality of final product**: "
        "3/5"
    ),
    (
        "Respect for tissue: **2/5**, Suture/needle handling: **1/5**, Time and motion: **1/5**, "
        "Flow of operation: **2/5**, Overall performance: **1/5**, Quality of final product: **3/"
        "5**"
    ),
    (
        "Respect for tissue: 2/5, Suture/needle handling: 1/5, Time and motion: 1/5, Flow of oper"
        "ation: 2/5, Overall performance: 1/5, Quality of final product: 3/5."
    ),
    (
        "Respect for tissue: 2/5, Suture/needle handling: 1/5, Time and motion: 1/5, Flow of oper"
        "ation: 2/5, Overall performance: 1/5, Quality of final product: 3/5!"
    ),
    (
        "Respect for tissue: 2/5, Suture/needle handling: 1/5, Time and motion: 1/5, Flow of oper"
        "ation: 2/5, Overall performance: 1/5, Quality of final product: 3/5\n\nTotal: 10/30"
    ),
    (
        "1. Respect for tissue: 2/5 - fine\n2. Suture/needle handling: 1/5 - fine\n3. Time and moti"
        "on: 1/5 - fine\n4. Flow of operation: 2/5 - fine\n5. Overall performance: 1/5 - fine\n6. Qu"
        "ality of final product: 3/5 - fine"
    ),
    (
        "{'Respect for tissue': 2, 'Suture/needle handling': 1, 'Time and motion': 1, 'Flow of op"
        "eration': 2, 'Overall performance': 1, 'Quality of final product': 3}"
    ),
    (
        "Respect for tissue: 2/5, Suture-needle handling: 1/5, Time and motion: 1/5, Flow of oper"
        "ation: 2/5, Overall performance: 1/5, Quality of final product: 3/5"
    ),
    (
        "Respect for tissue: 2/5,Suture/needle handling: 1/5,Time and motion: 1/5,Flow of operati"
        "on: 2/5,Overall performance: 1/5,Quality of final product: 3/5"
    ),
    (
        "Respect for tissue: 2/5, Suture/needle handling: 1/5, Time & motion: 1/5, Flow of operat"
        "ion: 2/5, Overall performance: 1/5, Quality of final product: 3/5"
    ),
]

TYING_SAID = [
    "Tying",
    "TYING",
    "tying.",
    "tying!",
    "'tying'",
    '"tying"',
    "**tying**",
    "- tying",
    "1. tying",
    "(a) tying",
    "A. tying",
    "B) tying",
    "* tying",
    "Answer: tying",
    "The answer is tying",
    "Answer: **tying**.",
    "Final answer: tying",
    "Next action: tying",
    "The next action is: tying",
    "Next step: tying",
    "the predicted next action is tying",
    "<label>tying</label>",
    "tying;",
    "tying,",
    "['tying']",
    '["tying"]',
    '{"next_action": "tying"}',
    "{tying}",
    "(tying)",
    "[tying]",
    "tying…",
    "tying。",
    "‘tying’",
    "`tying`",
    "`tying`.",
    '"tying".',
    "My answer: tying",
    "Action: tying",
    "Label: tying",
    "Prediction: tying\n",
    "tying<br>",
    "### tying",
    "> tying",
    "→ tying",
    "=> tying",
    "Answer - tying",
    "**Next action:** tying",
    "**Answer**: tying",
    "*tying*.",
    "tying\n\n",
    "tying <|im_end|> <|im_end|>",
    "“tying.”",
    "The next surgical action will be tying.",
    "Answer is: 'tying'",
    "1) tying",
    "[1] tying",
    "It is tying.",
    "The next action would be tying.",
    "Next: tying",
]

LABELS = [
    "3D suturing",
    "needle_driving",
    "2nd-suture",
    "cut + tie",
    "B",
    "suturé",
    "a|b|c",
    "Chest/abdomen",
    "Patient's bed",
    "IV (18G)",
    "x-ray",
    "Save electrocardiogram (ECG) results",
]


def said(task, text):
    value = PARSERS[task](text).value
    return [(event.start, event.end, event.caption) for event in value] if task == "dvc" else value


RIGHT = {
    "tal": (SPANS_SAID, SPANS),
    "stg": (BOXES_SAID, BOXES),
    "dvc": (EVENTS_SAID, EVENTS),
    "cvs": (CVS_SAID, CVS),
    "sa": (SKILLS_SAID, SKILLS),
}
WRONG = {"tal": NO_SPANS, "stg": NO_BOXES, "dvc": NO_EVENTS, "cvs": NO_CVS}


@pytest.mark.parametrize(("task", "text"), [(task, text) for task, (texts, _) in RIGHT.items() for text in texts])
def test_a_right_answer_in_other_words_is_read_whole(task, text):
    assert said(task, text) == RIGHT[task][1]


@pytest.mark.parametrize(("task", "text"), [(task, text) for task, texts in WRONG.items() for text in texts])
def test_parts_of_numbers_and_other_units_are_not_read(task, text):
    assert not said(task, text)
    assert PARSERS[task](text).format == 0


@pytest.mark.parametrize("text", TYING_SAID)
def test_a_label_in_other_words_is_read(text):
    assert PARSERS["nap"](text).value.lower() == "tying"


@pytest.mark.parametrize("label", LABELS)
def test_the_grammar_of_labels(label):
    assert PARSERS["nap"](label) == Parsed(label, 1)


UNITS = st.sampled_from(
    ["minutes", "min", "hours", "h", "ms", "frames", "mm", "cm", "mL", "%", "years", "stitches", "points", "px", "fps"]
)
NOUNS = st.sampled_from(["frames", "Frame", "steps", "phase", "pages", "images", "minutes", "patients", "grade"])
TENTHS = st.integers(0, 18_000).map(lambda n: n / 10)
ALL = st.lists(st.tuples(TENTHS, TENTHS), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(ALL, UNITS, NOUNS, st.sampled_from([" ", "-", "\u00a0"]))
def test_the_same_numbers_of_something_else_are_not_read(spans, unit, noun, blank):
    bare = render_tal(spans).removesuffix(" seconds.")
    assert PARSERS["tal"](f"{bare} seconds").value == spans
    assert not PARSERS["tal"](f"{bare}{blank}{unit}.").value
    assert not PARSERS["tal"](f"{noun} {bare}").value
    assert not PARSERS["tal"](f"{noun}: {bare}").value


GROUPS = st.lists(st.integers(1, 999), min_size=2, max_size=3)


@settings(max_examples=200, deadline=None)
@given(GROUPS, GROUPS, st.sampled_from([",", "\u00a0", "\u202f", "'", " "]), st.sampled_from(["-", " to ", " – "]))
def test_a_number_in_groups_is_never_read_in_part(first, second, mark, to):
    start, end = (f"{group[0]}" + "".join(f"{mark}{part:03}" for part in group[1:]) for group in (first, second))
    for text in (f"{start}{to}{end} seconds.", f"{start}{to}{second[0]} seconds.", f"{first[0]}{to}{end} seconds."):
        assert not PARSERS["tal"](text).value
        assert not PARSERS["dvc"](text.replace(".", ": cut")).value
    assert not PARSERS["stg"](f"{start} seconds: [1, 2, 3, 4]").value


MARKS = [",", ":", "'", "’", "/", "..", ".,", ",.", ":.", "./", "²", "½", "٣", "e", "_", "\u00a0"]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MARKS), *[st.integers(1, 99)] * 3)
def test_no_mark_inside_a_number_leaves_a_part_of_it(mark, whole, rest, other):
    number = f"{whole}{mark}{rest}"
    for text in (f"{number}-{other} seconds.", f"{other}-{number} seconds.", f"{number} to {number} s"):
        assert not PARSERS["tal"](text).value, text
    assert not PARSERS["stg"](f"{number} seconds: [1, 2, 3, 4]").value
    assert not PARSERS["dvc"](f"{number}-{other} seconds: cut").value


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2), st.sampled_from([*".,:/-–~+^²½٣%", " - ", " to ", " or ", " of "]), st.integers(0, 99))
def test_a_score_is_a_whole_number_or_none(score, mark, rest):
    read = PARSERS["cvs"](f"Two structures: {score}{mark}{rest}").value
    assert read == ({"two_structures": score} if (mark, rest) in (("/", 2), (" of ", 2)) else {})
